"""A small language model that is really trained, in seconds and with NumPy alone: bytes predicted from up to 15 bytes before.

It holds its training text and a suffix array of it, so that the places where a context occurs are two binary searches. The
next byte's distribution is interpolated over all lengths of the context (Witten and Bell 1991). It learns spelling, words and the
phrases of its text, and no more: what it shows here is how a text model is served, not what a large one knows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ORDER = 16  # bytes of a window: a context of up to 15 and the byte that follows
PLACES_MAX = 2048  # of one context that are counted; of more, evenly spread ones


class LanguageModel:
    def __init__(self, text: np.ndarray, suffixes: np.ndarray):
        """``text``: uint8 of shape (bytes,); ``suffixes``: int32 of the same shape, places in the order of what stands there."""
        self.text = text
        self.suffixes = suffixes
        padded = np.concatenate([text, np.zeros(ORDER, np.uint8)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, ORDER)[: len(text)]
        self.windows = np.ascontiguousarray(windows[suffixes]).view(f"S{ORDER}").ravel()

    @classmethod
    def train(cls, text: str) -> LanguageModel:
        """Raises ValueError for a text without ASCII characters."""
        data = np.frombuffer(encode(text), np.uint8)
        if len(data) == 0:
            raise ValueError("the text has no ASCII characters; give some to learn from")
        padded = np.concatenate([data, np.zeros(ORDER, np.uint8)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, ORDER)[: len(data)]
        order = np.argsort(np.ascontiguousarray(windows).view(f"S{ORDER}").ravel(), kind="stable")
        return cls(data, order.astype(np.int32))

    def save(self, path: Path) -> None:
        np.savez_compressed(path, text=self.text, suffixes=self.suffixes)

    @classmethod
    def load(cls, path: Path) -> LanguageModel:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["text"], arrays["suffixes"])

    def distribution(self, context: bytes) -> np.ndarray:
        """Probabilities of the next byte, float64 of shape (256,)."""
        probabilities = np.full(256, 1 / 256)
        for length in range(min(ORDER - 1, len(context)) + 1):
            followers = self.followers(context[len(context) - length :])
            if len(followers) == 0:
                break
            counts = np.bincount(followers, minlength=256)
            kinds = np.count_nonzero(counts)
            probabilities = (counts + kinds * probabilities) / (len(followers) + kinds)
        return probabilities

    def followers(self, context: bytes) -> np.ndarray:
        """The bytes that follow the context in the text, at most ``PLACES_MAX``."""
        first = np.searchsorted(self.windows, context)
        end = np.searchsorted(self.windows, context + b"\xff" * (ORDER - len(context)), side="right")
        places = self.suffixes[first : end : max(1, (end - first) // PLACES_MAX)][:PLACES_MAX] + len(context)
        return self.text[places[places < len(self.text)]]

    def generate(self, prompt: str, max_tokens: int, temperature: float = 0.8, seed: int = 0) -> str:
        """What follows the prompt, ``max_tokens`` bytes; temperature 0 takes the likeliest each time."""
        random = np.random.default_rng(seed)
        written = bytearray(encode(prompt))
        begin = len(written)
        for _ in range(max_tokens):
            probabilities = self.distribution(bytes(written[-ORDER:]))
            if temperature <= 0:
                written.append(int(probabilities.argmax()))
                continue
            sharpened = probabilities ** (1 / temperature)
            written.append(int(random.choice(256, p=sharpened / sharpened.sum())))
        return written[begin:].decode("ascii", "replace")

    def bits_per_byte(self, text: str) -> float:
        """How many bits it takes to say each byte of a text: 8 for who knows nothing."""
        data = encode(text)
        bits = [-np.log2(self.distribution(data[max(0, i - ORDER) : i])[data[i]]) for i in range(len(data))]
        return float(np.mean(bits))


def encode(text: str) -> bytes:
    return text.replace("\0", "").encode("ascii", "ignore")
