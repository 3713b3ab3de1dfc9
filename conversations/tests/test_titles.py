"""What a conversation is called."""

import pytest

from conversations import titles


@pytest.mark.parametrize(
    "said", ["Outbox or Kafka:", "“Outbox or Kafka.”", "Title: Outbox or Kafka", "**Outbox or Kafka**:"]
)
def test_a_title_of_a_model_is_its_words_alone(said):
    assert titles._tidy(said) == "Outbox or Kafka"
