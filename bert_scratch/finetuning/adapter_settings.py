"""Adapter settings: the kind of adapter that is trained instead of the encoder, and its size."""

from __future__ import annotations

from dataclasses import dataclass

from bert_scratch.config import InputError, Settings, check_choice, check_range, flag_of

ADAPTERS = ("none", "lora", "bottleneck", "prefix")
_READ_BY = {
    "lora_rank": ("lora",),
    "lora_alpha": ("lora",),
    "adapter_size": ("bottleneck", "prefix"),
}


@dataclass(frozen=True, kw_only=True)
class AdapterSettings(Settings):
    """The kind of adapter and its size."""

    adapter: str = "none"
    """A few new parameters learn in place of the encoder's: lora (merged into it at the end), bottleneck or prefix (only bert_scratch loads the result); none."""  # noqa: E501
    lora_rank: int = 8
    """Rank of the change of each matrix, with --adapter lora."""
    lora_alpha: float = 16.0
    """The change is scaled by this over the rank."""
    adapter_size: int = 16
    """Inner width of --adapter bottleneck, or positions of --adapter prefix."""

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            InputError: naming the flag.
        """
        check_choice("--adapter", self.adapter, ADAPTERS)
        check_range("--lora-rank", self.lora_rank, at_least=1)
        check_range("--lora-alpha", self.lora_alpha, above=0)
        check_range("--adapter-size", self.adapter_size, at_least=1)
        for name, kinds in _READ_BY.items():
            if self.adapter not in kinds and getattr(self, name) != getattr(AdapterSettings, name):
                needed = " or ".join(kinds)
                raise InputError(f"{flag_of(name)} has no effect without --adapter {needed}")

    def adapter_settings(self) -> AdapterSettings:
        """Return only these settings, without the others of a command that has more."""
        names = AdapterSettings.__dataclass_fields__
        return AdapterSettings(**{name: getattr(self, name) for name in names})

    @property
    def merges(self) -> bool:
        """Whether the result is an ordinary model."""
        return self.adapter in ("none", "lora")
