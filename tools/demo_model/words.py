"""The words that the demonstration's conversations are made of, Korean and English, and Korean's particles."""

from __future__ import annotations

from pathlib import Path
from random import Random

KO, EN = "ko", "en"
LANGUAGES = (KO, EN)

CITIES: tuple[tuple[str, str], ...] = tuple(
    (line.split(",")[0], line.split(",")[1])
    for line in (Path(__file__).parent / "cities.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)

#: What tools say of the sky -> Korean, English.
CONDITIONS: dict[str, tuple[str, str]] = {
    "sunny": ("맑음", "sunny"), "clear": ("맑음", "clear"), "맑음": ("맑음", "clear"),
    "cloudy": ("흐림", "cloudy"), "흐림": ("흐림", "cloudy"), "overcast": ("흐림", "overcast"),
    "partly_cloudy": ("구름 조금", "partly cloudy"), "partly cloudy": ("구름 조금", "partly cloudy"),
    "구름 조금": ("구름 조금", "partly cloudy"), "mostly_cloudy": ("구름 많음", "mostly cloudy"),
    "구름 많음": ("구름 많음", "mostly cloudy"),
    "rain": ("비", "rain"), "rainy": ("비", "rainy"), "비": ("비", "rain"), "light_rain": ("약한 비", "light rain"),
    "shower": ("소나기", "shower"), "소나기": ("소나기", "shower"), "drizzle": ("이슬비", "drizzle"),
    "snow": ("눈", "snow"), "snowy": ("눈", "snowy"), "눈": ("눈", "snow"), "sleet": ("진눈깨비", "sleet"),
    "fog": ("안개", "fog"), "foggy": ("안개", "foggy"), "안개": ("안개", "fog"), "mist": ("옅은 안개", "mist"),
    "thunderstorm": ("천둥번개", "thunderstorm"), "천둥번개": ("천둥번개", "thunderstorm"),
    "windy": ("바람", "windy"), "바람": ("바람", "windy"), "hot": ("더움", "hot"), "cold": ("추움", "cold"),
}  # fmt: skip

SYSTEM = (
    "당신은 정확한 정보를 제공하는 어시스턴트입니다.", "당신은 친절한 도우미입니다.", "짧게 답하세요.", "한국어로 답하세요.",
    "당신은 날씨를 알려 주는 비서입니다.", "도구를 사용해 질문에 답하세요.", "당신은 유용한 AI 비서입니다.", "항상 정중하게 답하세요.",
    "필요하면 도구를 부르세요.", "사용자의 질문에 정확하게 답하세요.",
    "You are a helpful assistant.", "You are a concise assistant.", "Use the tools to answer.", "Answer briefly.",
    "You are a weather bot.", "You help users with tools.", "Be polite and accurate.", "Call a tool when it helps.",
    "You are an agent. Think step by step.", "Respond in the user's language.",
)  # fmt: skip

#: Text -> which answer. Two languages of each.
SMALL_TALK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hello": (
        ("안녕", "안녕하세요", "안녕하십니까", "반가워", "반갑습니다", "만나서 반가워요", "하이", "헬로", "좋은 아침", "좋은 아침이에요",
         "좋은 저녁입니다", "안녕 반가워", "안녕하세요 반갑습니다", "여보세요", "처음 뵙겠습니다", "거기 있어?", "야 안녕", "안뇽"),
        ("hi", "hello", "hey", "hello there", "hi there", "good morning", "good evening", "good afternoon", "hey there", "greetings",
         "hello, how are you", "hi, nice to meet you", "howdy", "hey, good morning", "yo", "are you there?", "hello naru", "how are you"),
    ),
    "thanks": (
        ("고마워", "고맙습니다", "감사합니다", "정말 고마워요", "땡큐", "감사해요", "도와줘서 고마워", "잘했어", "최고야", "수고했어"),
        ("thanks", "thank you", "thank you very much", "thanks a lot", "great, thanks", "cheers", "well done", "good job",
         "that helps", "perfect, thank you"),
    ),
    "bye": (
        ("잘 가", "안녕히 계세요", "또 봐", "다음에 봐요", "잘 있어", "바이바이", "나 갈게", "이만 갈게요", "잘 자", "내일 봐"),
        ("bye", "goodbye", "see you", "see you later", "good night", "bye bye", "I have to go", "farewell", "take care", "talk to you later"),
    ),
    "who": (
        ("넌 누구야?", "너는 누구니?", "당신은 누구인가요?", "이름이 뭐야?", "자기소개 해줘", "너 뭐야?", "어떤 모델이야?", "모델 이름이 뭐예요?",
         "뭘 할 수 있어?", "무엇을 할 수 있나요?", "너 뭐 할 줄 알아?", "도움말", "기능을 알려줘", "사용법 알려줘"),
        ("who are you?", "what are you?", "what is your name?", "introduce yourself", "which model are you?", "what can you do?",
         "what model is this?", "help", "how do I use you?", "tell me about yourself", "your name?", "what are you able to do?"),
    ),
}  # fmt: skip

REPLIES: dict[str, tuple[str, str]] = {
    "hello": (
        "안녕하세요! 저는 나루의 작은 시연용 모델입니다. 날씨나 계산을 물어보세요.",
        "Hello! I am Naru's tiny demonstration model. Ask me about the weather or a calculation.",
    ),
    "thanks": ("천만에요!", "You are welcome!"),
    "bye": ("안녕히 가세요!", "Goodbye!"),
    "who": (
        "저는 나루에 들어 있는 작은 시연용 모델 naru-demo입니다. 인사하고, 도구로 날씨를 찾고 계산할 수 있습니다.",
        "I am naru-demo, the tiny demonstration model inside Naru. I can greet you, and use tools for weather and arithmetic.",
    ),
    "other": (
        "저는 인사, 날씨, 계산만 배운 작은 시연용 모델이라 답할 수 없습니다. 진짜 모델을 더하려면 naru models pull Qwen/Qwen3-0.6B를 실행하세요.",
        "I am a tiny demonstration model that only learned greetings, weather and arithmetic, so I cannot answer that. "
        "To add a real model, run: naru models pull Qwen/Qwen3-0.6B",
    ),
    "no_weather": (
        "날씨를 보려면 도구가 필요합니다. 요청의 tools에 get_current_weather를 넣어 주세요.",
        "I need a tool for the weather. Put get_current_weather into the tools of your request.",
    ),
    "no_sum": (
        "계산하려면 도구가 필요합니다. 요청의 tools에 calculate를 넣어 주세요.",
        "I need a tool for arithmetic. Put calculate into the tools of your request.",
    ),
}

_TOPICS_KO = (
    "양자역학", "김치찌개", "파이썬", "자바스크립트", "역사", "철학", "경제", "주식", "부동산", "축구", "야구", "농구", "영화", "드라마", "음악",
    "피아노", "기타", "고양이", "강아지", "우주", "블랙홀", "인공지능", "신경망", "데이터베이스", "운영체제", "수학", "미적분", "생물학", "화학",
    "물리", "문학", "소설", "시", "요리", "여행", "건강", "운동", "다이어트", "수면", "커피", "녹차", "와인", "법률", "세금", "보험", "대출",
    "환율", "비트코인", "스마트폰", "노트북", "자동차", "전기차", "자전거", "지하철", "비행기", "기차", "학교", "시험", "영어", "일본어", "중국어",
    "번역", "이메일", "보고서", "발표", "회의", "면접", "이력서", "연애", "결혼", "육아", "게임", "체스", "바둑", "그림", "사진", "패션", "화장품",
    "환경", "기후 변화", "태양광", "원자력", "정치", "선거", "헌법", "민주주의", "전쟁", "평화", "세종대왕", "이순신", "나폴레옹", "아인슈타인",
    "셰익스피어", "모차르트", "공룡", "바다", "산", "강", "꽃", "나무", "곤충", "새", "별자리", "꿈", "행복", "우정", "사랑", "시간", "돈",
)  # fmt: skip
_TOPICS_EN = (
    "quantum physics", "kimchi stew", "Python", "JavaScript", "history", "philosophy", "economics", "stocks", "real estate", "football",
    "baseball", "movies", "music", "the piano", "guitars", "cats", "dogs", "space", "black holes", "machine learning", "databases",
    "operating systems", "mathematics", "calculus", "biology", "chemistry", "literature", "novels", "poetry", "cooking", "travel", "health",
    "exercise", "sleep", "coffee", "tea", "wine", "law", "taxes", "insurance", "loans", "Bitcoin", "phones", "laptops", "cars", "bicycles",
    "trains", "airplanes", "school", "exams", "Korean", "Japanese", "translation", "emails", "reports", "meetings", "interviews", "resumes",
    "love", "marriage", "games", "chess", "go", "painting", "photography", "fashion", "climate change", "solar power", "politics",
    "elections", "democracy", "war", "peace", "Napoleon", "Einstein", "Shakespeare", "Mozart", "dinosaurs", "the ocean", "mountains",
    "rivers", "flowers", "trees", "insects", "birds", "stars", "dreams", "happiness", "friendship", "time", "money", "robots", "Docker",
)  # fmt: skip
_OTHER_KO = (
    "{t}에 대해 알려줘", "{t}에 대해 설명해 주세요", "{t}의 역사를 요약해줘", "{t} 추천해줘", "{t}이 뭐야?", "{t}란 무엇인가요?", "{t}에 관한 시를 써줘",
    "{t}에 관한 글을 써줘", "{t} 배우는 방법", "{t}의 장단점은?", "왜 {t}이 중요해?", "{t}와 {u}의 차이는?", "{t}와 {u}를 비교해줘",
    "{t} 공부 계획을 짜줘", "{t} 코드 짜줘", "{t} 함수를 작성해줘", "{t}를 영어로 번역해줘", "{t} 뉴스 알려줘", "{t}는 누가 만들었어?",
    "{t} 때문에 고민이야", "{t} 좋아해?", "{t} 어떻게 생각해?", "재미있는 {t} 이야기 해줘", "{t} 퀴즈 내줘", "{t}에 대해 {n}자로 써줘",
    "{t} 책 {n}권 추천해줘", "{c}의 인구는?", "{c} 여행 일정 짜줘", "{c} 맛집 추천해줘", "{c}은 어느 나라에 있어?", "{c}에서 {d}까지 얼마나 걸려?",
    "{c}의 역사를 알려줘", "{c} 호텔 예약해줘", "{c} 지도 보여줘", "{c}에 사는 사람들", "{n}년에 무슨 일이 있었어?", "{n}살에게 맞는 {t}",
    "{t}", "{t} {u}", "아무 말이나 해봐", "심심해", "농담 해줘", "배고파", "오늘 뭐 먹지?", "몇 시야?", "오늘 며칠이야?", "노래 불러줘",
    "{t} 검색해줘", "데이터베이스에서 {t} 찾아줘", "{t}를 요약해줘: {u}는 {t}보다 {t}에 가깝다", "{t} 표로 정리해줘", "{t}의 어원은?",
)  # fmt: skip
_OTHER_EN = (
    "tell me about {t}", "explain {t}", "summarize the history of {t}", "recommend {t}", "what is {t}?", "write a poem about {t}",
    "write an essay about {t}", "how do I learn {t}?", "pros and cons of {t}", "why does {t} matter?", "compare {t} and {u}",
    "what is the difference between {t} and {u}?", "make a study plan for {t}", "write code for {t}", "write a function about {t}",
    "translate {t} into Korean", "news about {t}", "who invented {t}?", "I worry about {t}", "do you like {t}?", "what do you think of {t}?",
    "tell me a story about {t}", "quiz me on {t}", "write {n} words about {t}", "recommend {n} books about {t}",
    "what is the population of {c}?", "plan a trip to {c}", "best restaurants in {c}", "which country is {c} in?",
    "how far is it from {c} to {d}?", "history of {c}", "book a hotel in {c}", "show a map of {c}", "who lives in {c}?",
    "what happened in {n}?", "{t} for a {n} year old", "{t}", "{t} {u}", "say something", "I am bored", "tell me a joke", "I am hungry",
    "what should I eat?", "what time is it?", "what day is today?", "sing a song", "search for {t}", "find {t} in the database",
    "summarize this: {t} is closer to {u} than to {t}", "put {t} into a table", "where does the word {t} come from?", "can you help me with {t}?",
)  # fmt: skip
_TOPICS = {KO: _TOPICS_KO, EN: _TOPICS_EN}
_OTHER = {KO: _OTHER_KO, EN: _OTHER_EN}

_KO_SYLLABLES = "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후강남당랑망방상앙장창항공농동롱몽봉송옹종총통퐁홍산천원진현영경민성빈은인선연월별들솔"
_EN_STARTS = (
    "B",
    "C",
    "D",
    "F",
    "G",
    "H",
    "K",
    "L",
    "M",
    "N",
    "P",
    "R",
    "S",
    "T",
    "V",
    "W",
    "Z",
    "Br",
    "Dr",
    "Gl",
    "Kr",
    "St",
    "Tr",
    "Sh",
)
_EN_MIDDLES = ("a", "e", "i", "o", "u", "ar", "en", "il", "on", "ul", "or", "an", "ei", "ou")
_EN_ENDS = (
    "ton",
    "burg",
    "ville",
    "mar",
    "dale",
    "field",
    "port",
    "ra",
    "na",
    "lo",
    "ka",
    "den",
    "wick",
    "stad",
    "polis",
    "ria",
    "",
)


def invented_city(random: Random, language: str) -> str:
    """A name that no list has, for copying."""
    if language == KO:
        return "".join(random.choice(_KO_SYLLABLES) for _ in range(random.choice((2, 2, 3, 3, 4))))
    return (
        random.choice(_EN_STARTS)
        + random.choice(_EN_MIDDLES)
        + random.choice(("", "l", "n", "r", "s"))
        + random.choice(_EN_ENDS)
    )


def known_city(random: Random, language: str) -> str:
    return random.choice(CITIES)[0 if language == KO else 1]


def other_text(random: Random, language: str) -> str:
    """A request for something that the model has not learned. One in twelve is noise."""
    if random.random() < 1 / 12:
        count = random.randint(1, 12)
        return " ".join(invented_city(random, language) + random.choice(("", "", ".", "!", "?")) for _ in range(count))
    topics = _TOPICS[language]
    first, second = random.sample(topics, 2)
    text = random.choice(_OTHER[language]).format(
        t=first, u=second, n=random.randint(2, 3000), c=known_city(random, language), d=known_city(random, language)
    )
    return f"{text}. {other_text(random, language)}" if random.random() < 0.08 else text


def has_final(word: str) -> bool:
    """Whether a Korean word ends in a consonant; other words are taken to end in a vowel."""
    code = ord(word[-1]) - 0xAC00
    return 0 <= code < 11172 and code % 28 > 0


def particle(word: str, pair: str) -> str:
    """`word` with the fitting one of "과/와", "은/는", "이/가", "을/를", "이랑/랑"."""
    closed, opened = pair.split("/")
    return word + (closed if has_final(word) else opened)
