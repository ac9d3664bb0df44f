"""Files of prompts."""

from pathlib import Path

import pytest

from latte_cli.core.data.captions.prompts import PromptLine, parse_prompt, read_prompts, slug
from latte_cli.core.errors import LatteError


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("a cat", PromptLine("a cat")),
        ("  a cat --seed 7  ", PromptLine("a cat", seed=7)),
        ("a cat --steps=20 --guidance-scale 4.5 --seed 0", PromptLine("a cat", 0, 20, 4.5)),
        ("a cat -- running -- fast, --5 degrees", PromptLine("a cat -- running -- fast, --5 degrees")),
        ('"well-known" [cat] \U0001f431 a--b', PromptLine('"well-known" [cat] \U0001f431 a--b')),
        ("--seed 3", PromptLine("", seed=3)),
        ("a cat --guidance-scale 0", PromptLine("a cat", guidance_scale=0.0)),
    ],
)
def test_a_line_has_a_prompt_and_its_options(line: str, prompt: PromptLine) -> None:
    assert parse_prompt(line, source="line") == prompt


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a --fast 3", "line: found --fast, expected --seed, --steps, --guidance-scale or none"),
        (
            "a --seed",
            "line: --seed: found '', expected an integer of at least 0, at most 9223372036854775807",
        ),
        (
            "a --seed -1",
            "line: --seed: found '-1', expected an integer of at least 0, at most 9223372036854775807",
        ),
        ("a --steps 0", "line: --steps: found '0', expected an integer of at least 1"),
        ("a --steps 2 b", "line: --steps: found '2 b', expected an integer of at least 1"),
        ("a --guidance-scale nan", "line: --guidance-scale: found 'nan', expected a number of at least 0.0"),
        ("a --guidance-scale inf", "line: --guidance-scale: found 'inf', expected a number of at least 0.0"),
    ],
)
def test_an_invalid_option_is_rejected(line: str, message: str) -> None:
    with pytest.raises(LatteError) as refusal:
        parse_prompt(line, source="line")
    assert str(refusal.value) == message


def test_a_file_has_one_prompt_per_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# two prompts\n\na cat --seed 1\na dog\n", encoding="utf-8")
    assert read_prompts(path) == [PromptLine("a cat", seed=1), PromptLine("a dog")]


def test_the_error_for_an_invalid_line_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog --seed x\n")
    with pytest.raises(LatteError) as refusal:
        read_prompts(path)
    expected = "--seed: found 'x', expected an integer of at least 0, at most 9223372036854775807"
    assert str(refusal.value) == f"--prompts-file: {path}: line 2: {expected}"


def test_a_file_without_prompts_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# none\n")
    with pytest.raises(LatteError, match="contains no prompts"):
        read_prompts(path)
    with pytest.raises(LatteError, match="cannot be read: No such file or directory"):
        read_prompts(tmp_path / "no.txt")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Sunset over the sea", "sunset-over-the-sea"),
        ('a [red] "cat"/../x', "a-red-cat-x"),
        ("\U0001f431", ""),
        ("", ""),
        ("word " * 20, "word-word-word-word-word-word-word-word"),
        ("x" * 50, "x" * 40),
        ("猫と海", "猫と海"),
    ],
)
def test_file_names_have_the_first_words_of_the_prompt(text: str, name: str) -> None:
    assert slug(text) == name
