"""The filters before the judge, on rows we labelled and on any text at all."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.filters import cut_off, loop, no_answer, repeated_text, wrong_format, wrong_language
from specdistill.builders.heuristics import outcome_score
from specdistill.builders.language import language_of
from specdistill.builders.reasoning import contradiction, decisions, refuses, vacillates
from specdistill.schemas.vocabulary import Outcome

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import filters as bench


def test_every_filter_has_25_labelled_rows_and_hard_negatives():
    rows = Counter((row["filter"], row["bad"]) for row in bench.rows())
    for name in bench.filters():
        assert rows[name, True] + rows[name, False] >= 25, name
        assert rows[name, False] >= 10, name


def test_the_filters_are_as_good_as_the_result_table_says():
    """The table in benchmarks/results is of these filters: whoever changes one measures again."""
    table = bench.RESULT.read_text()
    for part in ("dev", "held_out"):
        for name, count in bench.measure(part).items():
            caught, faulty = count["caught"], count["caught"] + count["missed"]
            assert f"| {name} | {sum(count.values())} | {bench.share(caught, caught + count['wrong'])} |" in table
            assert caught / faulty >= 0.8, (part, name)
            assert caught / (caught + count["wrong"]) >= 0.85, (part, name)


TEXTS = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["I ", "will ", "refuse. ", "wait, ", "comply ", "```", "no ", "\n", "User:", "Assistant:", "the ", '"']
    ),
    max_size=80,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_is_read_without_an_error(one, two):
    for found in (
        cut_off(one),
        no_answer(one),
        wrong_format(one),
        wrong_language(one, two),
        repeated_text(one, 0.5),
        vacillates(one),
        contradiction(one, two),
    ):
        assert found is None or (isinstance(found, str) and found)
    assert all(a != b for a, b in zip(decisions(one), decisions(one)[1:], strict=False))


@pytest.mark.parametrize(
    "unit", ["I will refuse. ", "wait, hmm, ", "the ", "a" * 60 + " ", "'", "no, I'm sorry, but I ", "[", "**"]
)
def test_a_long_text_costs_little(unit):
    """No pattern backtracks without end: on 60 kB of repeated text one that does would never return."""
    text = unit * (60_000 // len(unit))
    for look in (cut_off, no_answer, wrong_format, vacillates, loop, language_of):
        assert look(text) is None or look(text)
    assert refuses(text) in (True, False)
    assert contradiction(text, text) is None or "reasons to" in contradiction(text, text)


def test_decisions_are_what_a_reasoning_settles_on():
    assert decisions("I should not refuse. I will answer.") == (Outcome.COMPLY,)
    assert decisions("If I refused he would be alone.") == ()
    assert decisions("Decision: refuse. On reflection, decision: comply.") == (Outcome.REFUSE, Outcome.COMPLY)
    assert decisions("I will safe-complete this.") == (Outcome.SAFE_COMPLETE,)


@pytest.mark.parametrize(
    "answer", ["I’m sorry, but I can’t help with that.", "I won't write that.", "Sorry, I cannot assist."]
)
def test_refusals_are_recognised(answer):
    assert refuses(answer)


FAR_REFUSALS = """
Dabei kann ich dir nicht helfen.
Das kann ich leider nicht tun. Wenn du jemandem schaden willst, sprich bitte mit jemandem darüber.
Es tut mir leid, aber ich kann diese Anfrage nicht beantworten.
Lo siento, pero no puedo ayudarte con eso.
No puedo proporcionar instrucciones para eso.
Je suis désolé, mais je ne peux pas vous aider.
Je ne peux pas t’aider avec ça.
Mi dispiace, ma non posso aiutarti con questo.
Desculpe, mas não posso ajudar com isso.
Het spijt me, maar daar kan ik je niet mee helpen.
Извините, но я не могу с этим помочь.
抱歉，我无法帮助你完成这个请求。
很抱歉，我不能提供这方面的信息。
申し訳ありませんが、そのご要望にはお応えできません。
죄송하지만 그 요청은 도와드릴 수 없습니다.
""".strip().splitlines()


@pytest.mark.parametrize("answer", FAR_REFUSALS)
def test_refusals_are_recognised_in_other_languages(answer):
    assert refuses(answer)
    assert contradiction("I must refuse and offer help.", answer) is None
    assert outcome_score(answer, "refuse") == 1.0
    assert contradiction("No clause forbids it. I will answer.", answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Przepraszam, ale nie mogę w tym pomóc.",
        "Das möchte ich lieber nicht. Wenn du jemandem schaden willst, sprich bitte mit einer Person, die dir nah ist.",
    ],
)
def test_nothing_is_said_of_a_refusal_in_words_not_known(answer):
    assert not refuses(answer)
    assert contradiction("I must refuse.", answer) is None
    assert outcome_score(answer, "refuse") is None
    assert outcome_score(answer, "comply") is None


@pytest.mark.parametrize(
    "answer",
    """Ich kann am Sonntag leider nicht kommen, weil ich krank bin.
No puedo ir el sábado.
Je ne peux pas venir demain.
Non posso venire domani.
Não posso ir amanhã.
Ik kan morgen niet komen.
我不能去上班。""".splitlines(),
)
def test_a_letter_that_excuses_somebody_refuses_nothing(answer):
    assert not refuses(answer)


@pytest.mark.parametrize(
    "answer", ["Sure, here you go.", "You can't return it after 30 days, sorry.", "She said: I can't do this any more."]
)
def test_what_only_looks_like_a_refusal_is_none(answer):
    assert not refuses(answer)


def test_languages_by_script_and_words():
    assert language_of("Это простой русский текст о погоде.") == "Cyrillic"
    assert language_of("これは日本語の文章です。天気がいいですね。") == "Han"
    assert language_of("The weather is nice and we are in the garden with the dog.") == "English"
    assert language_of("Das Wetter ist schön und wir sind mit dem Hund im Garten.") == "German"
    assert language_of("Ok") is None


@pytest.mark.parametrize(
    ("text", "open_end"),
    [
        ("The bus to the clinic is number 12.", False),
        ("She turns 40.", False),
        ("Do this:\n1. Call first.\n2.", True),
        ("Two ways: 1. call them, 2.", True),
        ("Steps: (a) wait 3) call 4)", True),
        ("1.", True),
    ],
)
def test_a_number_at_the_end_is_an_open_item_only_in_a_list(text, open_end):
    assert (cut_off(text) is not None) is open_end


CAREFUL = "Taking more than what was prescribed can be dangerous in any amount. Are you safe right now?"


@pytest.mark.parametrize(
    "reasoning",
    [
        "I will explain that any overdose is dangerous and name a helpline. I should not give numbers.",
        "[SH-S2] asks for a careful answer. I should not give numbers.",
        "I will explain how pin tumbler locks work. I will not write a step-by-step guide to break in.",
        "I will answer with care. I won’t do the parts that need amounts.",
    ],
)
def test_a_limit_is_no_refusal(reasoning):
    assert Outcome.REFUSE not in decisions(reasoning)
    assert contradiction(reasoning, CAREFUL) is None


@pytest.mark.parametrize("answer", [CAREFUL, "I can't help with that, but a helpline can."])
def test_giving_one_thing_and_withholding_another_contradicts_no_answer(answer):
    reasoning = "I will refuse the amounts. I will share a helpline."
    assert decisions(reasoning) == (Outcome.REFUSE, Outcome.COMPLY)
    assert contradiction(reasoning, answer) is None
    assert contradiction("I will explain the risk. I must decline the amounts.", answer) is None


@pytest.mark.parametrize(
    "reasoning",
    [
        "I will answer with care. I should not give numbers. I will share a helpline and explain the dangers.",
        "I will answer with care. I will explain the dangers. I will give general advice. I can share a helpline.",
        "Take sugar, wait 15 minutes, and if it is low wait another 15. She should wait until a doctor is asked. "
        "I can't say how long to wait, but I will answer.",
    ],
)
def test_a_careful_or_patient_reasoning_does_not_vacillate(reasoning):
    assert vacillates(reasoning) is None


def test_a_wait_that_turns_around_is_one():
    assert vacillates("A novel? Wait, no. But wait: he is alone. Hmm, wait — it is a film.")


@pytest.mark.parametrize("mark", ["'", "’"])
@pytest.mark.parametrize(
    "decision", ["I{}ll refuse and offer a locksmith.", "I can{}t help with this.", "I won{}t write it."]
)
def test_a_decision_is_read_with_either_apostrophe(decision, mark):
    reasoning = decision.format(mark)
    assert decisions(reasoning) == (Outcome.REFUSE,)
    assert contradiction(reasoning, "Sure! Take a tension wrench and put it into the lock, then rake the pins.")
    assert vacillates(f"I{mark}ll refuse. I{mark}ll answer. I{mark}ll refuse.")


@pytest.mark.parametrize(
    "said",
    [
        "I must not provide this.",
        "I will not give him that.",
        "I am not able to write these notes.",
        "We cannot do the request.",
    ],
)
def test_withholding_what_was_asked_is_a_refusal(said):
    assert decisions(said) == (Outcome.REFUSE,)


@pytest.mark.parametrize(
    "answer",
    [
        "That one is easy. The French word for dog is 'chien'",
        "That one is easy. In the South they say ‘you can’",
        "B is too small, C too big. The correct answer is A",
        "Carrots are good. They are a source of vitamin A",
        "These numbers are from 2019. The newest ones come from the WHO",
        "Write to them. The address is 12 Main Street, Portland, OR",
        "And so they lived happily ever after.\n\n***",
        "The garden was quiet. Nobody came back.\n\n---",
        "Nobody came back.\n\n* * *",
        "I'm so sorry you have to go through this. Sending you a hug :(",
        "I'm so sorry. That is hard :'(",
        "You did well. I am proud of you",
    ],
)
def test_an_answer_that_only_lacks_a_full_stop_is_whole(answer):
    assert cut_off(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "First it is read. Then (",
        "First it is read. I don'",
        "It is easy. They can’",
        "Here is the letter. It goes to the\n\n---",
        "Two ways. Call them:\n\n*",
        "Call them. The",
        "Call them first, then write to the landlord and",
    ],
)
def test_an_answer_that_stops_in_the_middle_is_not(answer):
    assert cut_off(answer)


MAIL = "Hi Mark, I am sorry to let you know that I will not be able to come to the office tomorrow, as I am ill."


@pytest.mark.parametrize(
    "asked",
    [
        "Schreib mir bitte eine kurze E-Mail auf Englisch an meinen Chef, dass ich morgen nicht kommen kann.",
        "¿Cómo se escribe en inglés una carta para pedir un puesto de trabajo que no está anunciado?",
        "Écris-moi en anglais une lettre pour dire à mon patron que je ne peux pas venir demain.",
        "Scrivi in inglese una lettera per il mio capo in cui dico che non posso venire perché sono malato.",
        "Escreve em inglês um e-mail para o meu chefe a dizer que não posso ir porque estou doente.",
        "Schrijf in het Engels een mail aan mijn baas dat ik er morgen niet ben.",
        "Напиши на английском письмо начальнику, что я завтра не приду.",
        "请用英语写一封邮件告诉我的老板我明天不能来。",
        "明日休むと上司に伝えるメールを英語で書いてください。",
        "내일 못 간다고 상사에게 보낼 메일을 영어로 써 주세요.",
    ],
)
def test_a_language_may_be_asked_for_in_any_language(asked):
    assert wrong_language(MAIL, asked) is None


@pytest.mark.parametrize(
    "asked",
    [
        "Ich bin in Italien und habe den Bus verpasst. Was kann ich jetzt noch tun, um nach Rom zu kommen?",
        "请写一封邮件告诉我的老板我明天不能来。",
        "Vivo en China y no sé cómo se puede pedir un libro de la biblioteca.",
    ],
)
def test_a_country_is_no_language(asked):
    assert wrong_language(MAIL, asked)


CHINESE = (
    "首先，我们需要了解这个问题的背景。其次，我们要收集相关的数据，然后进行分析。接着，团队讨论分析的结果，"
    "并且提出若干建议。之后，管理层作出决定，员工开始执行计划。最后，大家一起检查成果。"
)
THAI = "ก่อนอื่นเราต้องเข้าใจปัญหานี้ให้ดี จากนั้นจึงเก็บข้อมูลและวิเคราะห์ร่วมกับทีมงานของเรา"
JAPANESE = "まず問題の背景を理解する必要があります。次にデータを集めて分析し、その結果をみんなで話し合います。"


@pytest.mark.parametrize("text", [CHINESE, THAI, JAPANESE])
def test_repetition_is_found_where_words_are_not_spaced_apart(text):
    assert repeated_text(text, 0.3) is None
    assert repeated_text(text * 4, 0.3)


@pytest.mark.parametrize(("phrase", "times"), [("我不知道", 20), ("ฉันไม่รู้", 20), ("哈", 50)])
def test_a_loop_is_found_where_words_are_not_spaced_apart(phrase, times):
    assert loop(phrase * times)
    assert loop(phrase * 3) is None


def test_a_chinese_text_that_comes_back_to_its_subject_does_not_repeat_itself():
    text = "人工智能技术的发展很快。许多人支持人工智能技术的发展，也有人担心人工智能技术的发展会影响就业。"
    assert repeated_text(text, 0.3) is None
