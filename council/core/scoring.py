"""Ballots -> standings."""

from collections.abc import Iterable

from council.core.values import Ballot, Standing


def standings(ballots: Iterable[Ballot]) -> tuple[Standing, ...]:
    """The mean of positions over the ballots that count, best first; equal means share a place (1, 2, 2, 4).

    An answer that no ballot ranked has no standing.
    """
    positions: dict[int, list[float]] = {}
    for ballot in ballots:
        if ballot.counts:
            for seat, position in ballot.positions().items():
                positions.setdefault(seat, []).append(position)
    means = {seat: sum(each) / len(each) for seat, each in positions.items()}
    return tuple(
        Standing(
            seat=seat,
            place=1 + sum(other < means[seat] for other in means.values()),
            mean=means[seat],
            ballots=len(positions[seat]),
        )
        for seat in sorted(means, key=lambda seat: (means[seat], seat))
    )
