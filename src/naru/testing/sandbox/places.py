"""Place names the sandbox knows, so that a question about two cities becomes two tool calls. Not a gazetteer.

Names that are common words as well (공주 is also a princess, Nice is also nice) are left out on purpose.
"""

from __future__ import annotations

import re

_KOREA = """
서울 부산 대구 인천 광주 대전 울산 세종 수원 성남 용인 부천 안양 안산 평택 의정부 파주 김포 고양시 춘천 원주
강릉 속초 동해시 청주 충주 천안 아산 전주 군산 익산 남원 여수 순천 목포 나주 포항 경주 구미 안동 김천 창원 마산
김해 거제 통영 제주 서귀포 경기도 강원도 충청북도 충청남도 전라북도 전라남도 경상북도 경상남도 울릉도 독도 평양 개성
"""
_WORLD_IN_KOREAN = """
도쿄 오사카 교토 후쿠오카 삿포로 나고야 베이징 상하이 홍콩 타이베이 싱가포르 방콕 하노이 호치민 자카르타 마닐라
뭄바이 델리 두바이 이스탄불 모스크바 런던 파리 베를린 뮌헨 마드리드 바르셀로나 로마 밀라노 프라하 암스테르담
브뤼셀 취리히 제네바 스톡홀름 오슬로 코펜하겐 헬싱키 더블린 리스본 아테네 카이로 나이로비 뉴욕 워싱턴 보스턴
시카고 샌프란시스코 로스앤젤레스 시애틀 토론토 밴쿠버 멕시코시티 상파울루 시드니 멜버른
"""
_IN_ENGLISH = """
Seoul,Busan,Daegu,Incheon,Gwangju,Daejeon,Ulsan,Sejong,Suwon,Seongnam,Yongin,Chuncheon,Wonju,Gangneung,Sokcho,Cheongju
Cheonan,Jeonju,Gunsan,Yeosu,Suncheon,Mokpo,Pohang,Gyeongju,Gumi,Andong,Changwon,Gimhae,Jeju,Pyongyang,Tokyo,Osaka,Kyoto
Fukuoka,Sapporo,Nagoya,Beijing,Shanghai,Shenzhen,Hong Kong,Taipei,Singapore,Bangkok,Hanoi,Ho Chi Minh City,Jakarta
Manila,Mumbai,Delhi,New Delhi,Bangalore,Dubai,Istanbul,Moscow,London,Paris,Berlin,Munich,Hamburg,Madrid,Barcelona,Rome
Milan,Vienna,Prague,Warsaw,Amsterdam,Brussels,Zurich,Geneva,Stockholm,Oslo,Copenhagen,Helsinki,Dublin,Lisbon,Athens
Cairo,Nairobi,Lagos,Cape Town,New York,Washington,Boston,Chicago,San Francisco,Los Angeles,Seattle,Austin,Denver,Miami
Toronto,Vancouver,Montreal,Mexico City,Buenos Aires,Sydney,Melbourne
"""

KOREAN = tuple((_KOREA + _WORLD_IN_KOREAN).split())
ENGLISH = tuple(name for line in _IN_ENGLISH.split("\n") if line for name in line.split(","))


def _either(names: tuple[str, ...]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


# A Korean name may have a particle after it (서울의, 부산은) but no syllable before it; an English one stands alone.
_PLACE = re.compile(rf"(?<![가-힣])(?:{_either(KOREAN)})|(?<![A-Za-z])(?i:{_either(ENGLISH)})(?![A-Za-z])")


def find_places(text: str) -> list[str]:
    """The known places in `text` as written there, in order, each once."""
    return list(dict.fromkeys(_PLACE.findall(text)))
