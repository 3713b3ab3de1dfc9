"""Figures as people read them: money, time, tokens."""

from datetime import datetime

from django import template

from conversations import showing

register = template.Library()


@register.filter
def money(micro_dollars: int | None) -> str:
    """Micro-dollars as dollars, exact enough for what a question costs. Nothing where no price is known."""
    if micro_dollars is None:
        return ""
    dollars = micro_dollars / 1_000_000
    if not dollars:
        return "$0"
    if dollars < 0.001:
        return "<$0.001"
    return f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.3f}"


@register.filter
def seconds(value: float | None) -> str:
    """Seconds to a tenth below twenty, whole ones up to a minute, then minutes."""
    if value is None:
        return ""
    if value < 19.95:
        return f"{value:.1f} s"
    return whole(value)


@register.filter
def whole(value: float) -> str:
    """Seconds that still count up, as the page's clocks write them."""
    minutes, rest = divmod(int(value), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@register.filter
def since(moment: datetime | None) -> float:
    """Seconds from then until now, for a running clock."""
    return showing.elapsed_since(moment) if moment else 0.0
