"""What is broken is found: invariants that no fault here breaks."""

import pytest

from faults import invariants


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ([{"provider": "Fake", "model": "m0"}], 0),
        ([{"provider": "Fake", "model": "m1"}], 1),
        ([{"provider": "Another", "model": "m0"}], 1),
        ([], 1),
    ],
)
def test_a_call_that_was_sent_and_that_the_trail_does_not_name_is_found(seen, found):
    call = {"deliberation_id": 7, "purpose": "title", "provider_name": "Fake", "model_id": "m0", "sent": "now"}
    asked = {"object_id": "7", "details": {"models": [{"provider": "Fake", "model": "m0"}]}}
    another = {"object_id": "8", "details": {"seen by": [{"provider": "Fake", "model": "m0"}]}}
    events = [asked, another, {"object_id": "7", "details": {"seen by": seen}}]
    assert len(list(invariants.unnamed([call], events))) == found
    assert not list(invariants.unnamed([{**call, "sent": None}], events))
