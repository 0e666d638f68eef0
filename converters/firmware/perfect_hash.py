"""A perfect hash of the tokenizer's merges."""

import numpy as np

from converters.firmware import unicode_probe

_SEEDS = np.arange(65536, dtype=np.uint32)


def perfect_hash(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds seeds that give every key a slot of its own ("hash, displace, compress").

    Args:
        keys: (merges,) uint32, distinct.

    Returns:
        seeds (buckets,) uint16 and slots (slots,) uint16: index of the key, 0 where empty.

    Raises:
        TokenizerTableError: if no table is found, which other sizes would mend.
    """
    for spare in (128, 64, 32, 16, 8, 4, 2):
        found = _place_all(keys, max(2, len(keys) + len(keys) // spare))
        if found is not None:
            return found
    raise unicode_probe.TokenizerTableError("no perfect hash was found for the merges")


def _place_all(keys: np.ndarray, num_slots: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns seeds and slots, or None where some bucket of keys finds no free slots."""
    num_buckets = max(1, len(keys) // 5)
    bucket = ((keys * np.uint32(0x9E3779B1)) >> np.uint32(16)) * np.uint32(num_buckets)
    bucket >>= np.uint32(16)
    order = np.argsort(bucket, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1)
    groups.sort(key=len, reverse=True)
    seeds = np.zeros(num_buckets, np.uint16)
    slots = np.zeros(num_slots, np.uint16)
    used = np.zeros(num_slots, bool)
    for group in groups:
        found = _seed_of(keys[group], used)
        if found is None:
            return None
        seed, places = found
        seeds[bucket[group[0]]] = seed
        used[places] = True
        slots[places] = group
    return seeds, slots


def _seed_of(keys: np.ndarray, used: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Returns the first seed that gives every key a free slot of its own, and those slots."""
    for chunk in (_SEEDS[:64], _SEEDS[64:2048], _SEEDS[2048:]):
        mixed = keys[None, :] ^ (chunk * np.uint32(0x85EBCA6B))[:, None]
        mixed = mixed * np.uint32(0xC2B2AE35)
        mixed ^= mixed >> np.uint32(15)
        mixed = (mixed * np.uint32(0x27D4EB2F)) >> np.uint32(16)
        places = (mixed * np.uint32(len(used))) >> np.uint32(16)  # (seeds, keys)
        good = ~used[places].any(1)
        ordered = np.sort(places, 1)
        good &= (ordered[:, 1:] != ordered[:, :-1]).all(1)
        if good.any():
            pick = int(np.argmax(good))
            return int(chunk[pick]), places[pick]
    return None
