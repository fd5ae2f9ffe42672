"""`--policy` of the commands, and `samvideo models --policies`."""

from collections.abc import Sequence

import typer

from samvideo.errors import ConfigError, shown

POLICY_HELP = "Another memory policy, with options: NAME[:OPTION=VALUE,...], see `samvideo models --policies`."
SEVERAL_HELP = f"{POLICY_HELP} Repeatable: to compare them, in a folder each; a frame is encoded once for all."


def check_policy(text: str | None) -> str | None:
    """The form in which a policy is recorded; ConfigError if there is no such policy or option."""
    from samvideo.policies import policy_text

    return None if text is None else policy_text(text)


def check_policies(texts: Sequence[str]) -> tuple[str, ...]:
    """The same of several policies; ConfigError if two are equal."""
    from samvideo.policies import policy_text

    found = tuple(map(policy_text, texts))
    if repeated := [text for text in found if found.count(text) > 1]:
        raise ConfigError(f"--policy {shown(repeated[0])} is given twice: leave one out")
    return found


def echo_policies() -> None:
    """Print a line for each policy: name, what it does, source, cost, options. Imports torch."""
    from samvideo.option_text import options_text
    from samvideo.policies import REFERENCE, policy_facts, policy_options
    from samvideo.registry import MEMORY_POLICIES

    common = policy_options(REFERENCE)
    for name in sorted(MEMORY_POLICIES.all(), key=lambda name: (name != REFERENCE, name)):
        facts, options = policy_facts(name), policy_options(name)
        inherits = name != REFERENCE and common.keys() <= options.keys()
        if inherits:
            options = {key: value for key, value in options.items() if common.get(key, ...) != value}
        texts = [options_text(options)] * bool(options) + [f"those of {REFERENCE}"] * inherits
        source = f" ({facts.source})" if facts.source else ""
        cost = f"; cost: {facts.cost}" if facts.cost else ""
        typer.echo(f"{name:18} {facts.does}{source}{cost}; options: {', '.join(texts)}")
