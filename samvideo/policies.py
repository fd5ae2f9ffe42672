"""Memory policies by name and options, as in `--policy dam4sam:drm=3,stride=5`; no torch."""

from typing import Any

from samvideo.errors import ConfigError, shown
from samvideo.memory.base import MemoryPolicy, PolicyFacts
from samvideo.option_text import options_of, options_text, split_options, with_options
from samvideo.registry import MEMORY_POLICIES

REFERENCE = "fifo"
"""The policy whose options most others have as well, and to whose cost theirs is compared."""


def parse_policy(text: str) -> MemoryPolicy:
    """The policy of `NAME` or `NAME:OPTION=VALUE,...`; options are the fields of the policy's config.

    Raises:
        ConfigError: no such policy or option, or a value that it does not take.
    """
    name, options = split_options(text)
    try:
        config = with_options(MEMORY_POLICIES.find(name), options, f"memory policy {name!r}")
        policy: MemoryPolicy = MEMORY_POLICIES.module(name).build(config)
    except ConfigError as error:
        raise ConfigError(f"policy {shown(text)}: {error}") from None
    return policy


def policy_text(text: str) -> str:
    """The one form of equal policies: options in the order of the config, without those that have their defaults.

    Raises:
        ConfigError: see `parse_policy`.
    """
    parse_policy(text)
    name, options = split_options(text)
    known = policy_options(name)
    given = options_of(with_options(MEMORY_POLICIES.find(name), options, name))
    changed = {key: value for key, value in given.items() if value != known[key]}
    return f"{name}:{options_text(changed, ',')}" if changed else name


def text_of(policy: str | MemoryPolicy) -> str:
    """The text that `parse_policy` makes this policy of; a text is returned as it is.

    Raises:
        ConfigError: there is none, as the policy is not one of the registry.
    """
    if isinstance(policy, str):
        return policy
    for name in MEMORY_POLICIES.all():
        if type(MEMORY_POLICIES.find(name)) is type(policy):
            text = policy_text(f"{name}:{options_text(options_of(policy), ',')}")
            if parse_policy(text) == policy:
                return text
    raise ConfigError(
        f"the policy of an exported model is one that `samvideo models --policies` lists, not {policy!r}"
    )


def policy_options(name: str) -> dict[str, Any]:
    """Options that can be given as text, with their defaults.

    Raises:
        ConfigError: there is no policy of that name.
    """
    return options_of(MEMORY_POLICIES.find(name))


def policy_facts(name: str) -> PolicyFacts:
    """What a policy does, its source and its cost: the `FACTS` of its module, else the title of that."""
    module = MEMORY_POLICIES.module(name)
    title = (module.__doc__ or "-").strip().splitlines()[0].removesuffix(".")
    facts: PolicyFacts = getattr(module, "FACTS", PolicyFacts(title))
    return facts
