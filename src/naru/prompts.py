"""Messages for common kinds of work: reasoning, code, answers in several languages. They are OpenAI's messages, for any model;
the turns around them are the model's own template's, not this module's.

    client.chat.completions.create(model="…", messages=prompts.coding("A cache with expiry", language="Rust"))
"""

from __future__ import annotations

from collections.abc import Sequence

Messages = list[dict[str, str]]

#: Codes of languages that are named in full; another one is taken as it is written.
LANGUAGES = {
    "ar": "Arabic (العربية)",
    "de": "German (Deutsch)",
    "en": "English",
    "es": "Spanish (Español)",
    "fr": "French (Français)",
    "hi": "Hindi (हिन्दी)",
    "id": "Indonesian (Bahasa Indonesia)",
    "it": "Italian (Italiano)",
    "ja": "Japanese (日本語)",
    "ko": "Korean (한국어)",
    "pt": "Portuguese (Português)",
    "ru": "Russian (Русский)",
    "th": "Thai (ไทย)",
    "vi": "Vietnamese (Tiếng Việt)",
    "zh": "Chinese (中文)",
}


def reasoning(problem: str, context: str = "") -> Messages:
    """A problem to be solved in steps, with a check at the end. A model that thinks needs no such request: give it a
    `thinking_budget` instead."""
    return _messages(
        "Solve the problem in clear steps: find what is given and what is asked, work towards it one step at a time, check the "
        "result against the problem, and end with the answer on a line of its own.",
        context,
        problem,
    )


def coding(task: str, language: str = "Python", context: str = "", constraints: str | Sequence[str] = ()) -> Messages:
    """A task for a programmer. `context` is code or documentation that exists; `constraints` one text or a list."""
    listed = [constraints] if isinstance(constraints, str) else list(constraints)
    wanted = "\n".join(f"- {constraint.strip()}" for constraint in listed if constraint.strip())
    return _messages(
        f"You write {language}: correct, complete and ready to run, in the language's own conventions, with types where it has "
        "them, documentation of what is public, and a short example of its use. Say what you assume.",
        context,
        f"{task.strip()}\n\nConstraints:\n{wanted}" if wanted else task,
    )


def multilingual(query: str, languages: Sequence[str] = ("ko", "en")) -> Messages:
    """One question, answered in each of the languages: codes such as `ko`, or names. Raises ValueError for none."""
    names = [LANGUAGES.get(language.lower(), language) for language in dict.fromkeys(languages)]
    if not names:
        raise ValueError("Name at least one language.")
    return _messages(
        f"Answer in each of these languages, in this order, under a heading with the language's name: {', '.join(names)}. Write "
        "each as a native speaker would say it; do not translate word by word.",
        "",
        query,
    )


def _messages(role: str, context: str, text: str) -> Messages:
    """The context stands apart, so that nothing in it is taken for the task."""
    system = f"{role}\n\n<context>\n{context.strip()}\n</context>" if context.strip() else role
    return [{"role": "system", "content": system}, {"role": "user", "content": text.strip()}]
