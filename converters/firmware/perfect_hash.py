"""A perfect hash of the tokenizer's merges."""

import numpy as np

from converters.firmware import unicode_probe


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
        num_slots = max(2, len(keys) + len(keys) // spare)
        num_buckets = max(1, len(keys) // 5)
        bucket = ((keys * np.uint32(0x9E3779B1)) >> np.uint32(16)) * np.uint32(num_buckets)
        bucket >>= np.uint32(16)
        order = np.argsort(bucket, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1)
        groups.sort(key=len, reverse=True)
        seeds = np.zeros(num_buckets, np.uint16)
        slots = np.zeros(num_slots, np.uint16)
        used = np.zeros(num_slots, bool)
        all_seeds = np.arange(65536, dtype=np.uint32)
        found = True
        for group in groups:
            found = False
            for chunk in (all_seeds[:64], all_seeds[64:2048], all_seeds[2048:]):
                mixed = keys[group][None, :] ^ (chunk * np.uint32(0x85EBCA6B))[:, None]
                mixed = mixed * np.uint32(0xC2B2AE35)
                mixed ^= mixed >> np.uint32(15)
                mixed = (mixed * np.uint32(0x27D4EB2F)) >> np.uint32(16)
                place = (mixed * np.uint32(num_slots)) >> np.uint32(
                    16
                )  # (seeds, keys of the group)
                good = ~used[place].any(1)
                ordered = np.sort(place, 1)
                good &= (ordered[:, 1:] != ordered[:, :-1]).all(1)
                if good.any():
                    pick = int(np.argmax(good))
                    seeds[bucket[group[0]]] = chunk[pick]
                    used[place[pick]] = True
                    slots[place[pick]] = group
                    found = True
                    break
            if not found:
                break
        if found:
            return seeds, slots
    raise unicode_probe.TokenizerTableError("no perfect hash was found for the merges")
