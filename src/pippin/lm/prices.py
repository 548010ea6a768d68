"""What served models cost, as their makers stated it at :data:`AS_OF`. Prices change: state your own where it matters.

A model is found by its exact name. One that is not here has no known price, and none is guessed: say
``openai/NAME?input=0.15&output=0.60`` (US dollars per million tokens), or ``Api(prices=(0.15, 0.60))``.
"""

from __future__ import annotations

AS_OF = "2025-08"

# US dollars per million prompt and completion tokens, without discounts for batches and cached prompts
PRICES: dict[str, tuple[float, float]] = {
    "gpt-3.5-turbo": (0.50, 1.50),
    "gpt-3.5-turbo-0125": (0.50, 1.50),
    "gpt-4": (30.00, 60.00),
    "gpt-4-0613": (30.00, 60.00),
    "gpt-4-1106-preview": (10.00, 30.00),
    "gpt-4-turbo": (10.00, 30.00),
    "gpt-4-turbo-2024-04-09": (10.00, 30.00),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-2025-04-14": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-mini-2025-04-14": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-4.1-nano-2025-04-14": (0.10, 0.40),
    "gpt-4o": (2.50, 10.00),
    "gpt-4o-2024-05-13": (5.00, 15.00),
    "gpt-4o-2024-08-06": (2.50, 10.00),
    "gpt-4o-2024-11-20": (2.50, 10.00),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),
    "gpt-5": (1.25, 10.00),
    "gpt-5-2025-08-07": (1.25, 10.00),
    "gpt-5-mini": (0.25, 2.00),
    "gpt-5-mini-2025-08-07": (0.25, 2.00),
    "gpt-5-nano": (0.05, 0.40),
    "gpt-5-nano-2025-08-07": (0.05, 0.40),
    "o1": (15.00, 60.00),
    "o1-2024-12-17": (15.00, 60.00),
    "o3": (2.00, 8.00),
    "o3-2025-04-16": (2.00, 8.00),
    "o3-mini": (1.10, 4.40),
    "o3-mini-2025-01-31": (1.10, 4.40),
    "o4-mini": (1.10, 4.40),
    "o4-mini-2025-04-16": (1.10, 4.40),
}


def find(model: str) -> tuple[float, float] | None:
    """US dollars per million prompt and completion tokens of the model with exactly this name; None if unknown."""
    return PRICES.get(model)
