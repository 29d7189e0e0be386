"""Generated sets: small loads of known shape, for which it is known what a planner must do.

    name, accesses, seed ──▶ PCG64 bit stream ──▶ own integer arithmetic ──▶ ACCESS table

The same arguments give the same accesses with every version of NumPy: only the raw 64-bit stream
of PCG64 is used, which NumPy promises to keep, never the methods of a Generator, which it may
change; and the arithmetic on it is on whole numbers. A set is two hours long however many
accesses it has, so that more accesses mean more load and not more time.

Keys are readable and zero-padded, so that their order as bytes is their order as numbers. These
sets are models: results on them are reported beside those on recorded traces, never instead.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import InvalidArgument
from workbench.model.tables import ACCESS, TIME, check_table
from workbench.traces.columns import fixed_width_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

SMALL: Final = 20_000
ACCESSES_MAX: Final = 100_000_000
BASE_US: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SPAN_US: Final = 2 * 3_600_000_000
SLOTS: Final = 240  # of 30 s, in which the rate is constant
KEYS: Final = 10_000
KEY_STEP: Final = 100  # distance of neighbouring keys' numbers: room to cut between them
WRITES_PERCENT: Final = 30

# Odd primes that do not divide KEYS: multiplying by one permutes the keys.
_SCATTER: Final = 7_919
_SLOT_US: Final = SPAN_US // SLOTS
_HASH_ROWS: Final = 1 << 20

HOT_KEY: Final = 6_180
HOT_KEY_PERCENT: Final = 40
HOT_RANGE: Final = (4_000, 4_400)
HOT_RANGE_PERCENT: Final = 60
DIURNAL_DAY: Final = (1_500, 2_500)
DIURNAL_NIGHT: Final = (7_000, 8_000)
DIURNAL_CYCLE_SLOTS: Final = 60  # 30 minutes: two whole cycles in each half
OSCILLATING: Final = ((2_000, 2_400), (7_600, 8_000))
OSCILLATING_SLOTS: Final = 4  # 2 minutes on one side, then 2 on the other
OSCILLATING_PERCENT: Final = 50
FRONT_READ_BACK: Final = 1_000


class _Bits:
    """Streams of whole numbers from a seed; each column draws from one of its own."""

    def __init__(self, name: str, seed: int, count: int) -> None:
        self._entropy = [seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")]
        self._streams = 0
        self.count = count

    def raw32(self) -> npt.NDArray[np.int64]:
        """Return `count` numbers from 0 up to 2**32."""
        stream = np.random.PCG64([*self._entropy, self._streams])
        self._streams += 1
        numbers: npt.NDArray[np.int64] = (stream.random_raw(self.count) >> np.uint64(32)).astype(
            np.int64
        )
        return numbers

    def below(self, limit: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return numbers from 0 up to `limit`, at most 2**31; uneven by less than 2**-31."""
        numbers: npt.NDArray[np.int64] = (self.raw32() * limit) >> 32
        return numbers

    def percent(self, share: int | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of `count` draws fall into a share of so many per cent."""
        chosen: npt.NDArray[np.bool_] = self.below(100) < share
        return chosen


def generate(name: str, *, accesses: int, seed: int) -> pa.Table:
    """Generate the set `name`.

    Args:
        name: One of GENERATORS.
        accesses: Number of rows, from 1 to ACCESSES_MAX.
        seed: From 0; another seed is another sample of the same shape.

    Returns:
        ACCESS schema, time ascending from 2026-01-01T00:00:00Z over two hours.

    Raises:
        InvalidArgument: codes dataset_unknown, dataset_argument_invalid.
    """
    if name not in GENERATORS:
        raise InvalidArgument(
            f"there is no generated set {name!r}",
            code="dataset_unknown",
            hint=f"known are {', '.join(GENERATORS)}",
        )
    if not 1 <= accesses <= ACCESSES_MAX or seed < 0:
        raise InvalidArgument(
            f"cannot generate {accesses} accesses from seed {seed}",
            code="dataset_argument_invalid",
            hint=f"give 1 to {ACCESSES_MAX} accesses, and a seed from 0",
        )
    return GENERATORS[name](_Bits(name, seed, accesses))


def zipf(bits: _Bits) -> pa.Table:
    """Zipf's law (exponent 1) over all keys, the popular ones scattered over the key space.

    Models a cache or a catalogue of goods. A planner should even out the routes: no range is
    hot as such, so cuts go by weight, and the heaviest key (a tenth of the load) stays a bound.
    """
    return _set(bits, "item", _steady(bits), _zipf_ranks(bits) * _SCATTER % KEYS * KEY_STEP)


def hot_key(bits: _Bits) -> pa.Table:
    """One key takes 40 % of the load, the others share the rest evenly.

    Models a counter or a celebrity's row. A planner must isolate the key, and say that no split
    makes the route that holds it lighter than the key.
    """
    index = np.where(bits.percent(HOT_KEY_PERCENT), HOT_KEY, bits.below(KEYS))
    return _set(bits, "user", _steady(bits), index * KEY_STEP)


def hot_range(bits: _Bits) -> pa.Table:
    """A range of 4 % of the keys takes 60 % of the load, evenly over its 400 keys, all the time.

    Models a tenant or a region that outgrew the others. A planner must cut inside the range; the
    cuts keep helping, since the second hour is like the first.
    """
    index = np.where(bits.percent(HOT_RANGE_PERCENT), _within(bits, HOT_RANGE), bits.below(KEYS))
    return _set(bits, "user", _steady(bits), index * KEY_STEP)


def moving_front(bits: _Bits) -> pa.Table:
    """Every write appends a new greatest key; reads go to the last thousand keys written.

    Models an event log keyed by time. Cuts made from the past are cold when they take effect: a
    planner must offer a cut at the tail, or say that splitting does not help.
    """
    writes = bits.percent(70)
    writes[0] = True
    written = np.cumsum(writes)  # so many keys exist after each access
    back = bits.below(np.minimum(written, FRONT_READ_BACK))
    number = written - 1 - np.where(writes, 0, back)
    return _set(bits, "event", _steady(bits), number, writes=writes)


def diurnal(bits: _Bits) -> pa.Table:
    """Four cycles of 30 minutes, in which rate and place of the load go up and down.

    Models day and night shortened: at the peak three times the load of the trough, most of it in
    one tenth of the keys; in the trough most of it in another tenth (batch work). A planner must
    plan for the worst phase, not for the mean, in which neither range looks as hot as it gets.
    """
    phase = np.arange(SLOTS, dtype=np.int64) % DIURNAL_CYCLE_SLOTS
    half = DIURNAL_CYCLE_SLOTS // 2
    height = np.minimum(phase, DIURNAL_CYCLE_SLOTS - phase)  # 0 at night, `half` at noon
    time_us, slot = _times(bits, half + 2 * height)
    day = bits.percent(100 * height[slot] // half)
    local = np.where(day, _within(bits, DIURNAL_DAY), _within(bits, DIURNAL_NIGHT))
    index = np.where(bits.percent(60), local, bits.below(KEYS))
    return _set(bits, "user", time_us, index * KEY_STEP)


def oscillating(bits: _Bits) -> pa.Table:
    """Half of the load sits on one of two ranges and changes sides every two minutes.

    Models a job that alternates between two tables. No range is hot for three windows of a
    minute, so detection must call none hot, and repeated planning must not answer each swing
    with another split.
    """
    time_us, slot = _times(bits, np.ones(SLOTS, dtype=np.int64))
    left = slot // OSCILLATING_SLOTS % 2 == 0
    local = np.where(left, _within(bits, OSCILLATING[0]), _within(bits, OSCILLATING[1]))
    index = np.where(bits.percent(OSCILLATING_PERCENT), local, bits.below(KEYS))
    return _set(bits, "user", time_us, index * KEY_STEP)


def uniform(bits: _Bits) -> pa.Table:
    """Control: every key is equally likely, all the time.

    Routes of equally many keys are already best. A planner that promises more than a few per cent
    over them has fitted noise.
    """
    return _set(bits, "user", _steady(bits), bits.below(KEYS) * KEY_STEP)


def renumbered(bits: _Bits) -> pa.Table:
    """Control: the accesses of a Zipf law, with keys renumbered in the order of first arrival.

    Models published traces whose keys were anonymised so. The order of keys is the order of
    arrival and says nothing of the real key space: the reader must warn, and no plan made from
    it means anything.
    """
    ranks = _zipf_ranks(bits)
    _, first, inverse = np.unique(ranks, return_index=True, return_inverse=True)
    arrival = np.empty(len(first), dtype=np.int64)
    arrival[np.argsort(first)] = np.arange(len(first))
    return _set(bits, "block", _steady(bits), arrival[inverse.reshape(-1)])


GENERATORS: Final[Mapping[str, Callable[[_Bits], pa.Table]]] = MappingProxyType(
    {
        "zipf": zipf,
        "hot-key": hot_key,
        "hot-range": hot_range,
        "moving-front": moving_front,
        "diurnal": diurnal,
        "oscillating": oscillating,
        "uniform": uniform,
        "renumbered": renumbered,
    }
)


def content_checksum(table: pa.Table) -> str:
    r"""Return the SHA-256 of an ACCESS table's logical values, in lower-case hex.

    The same rows give the same sum whatever their chunks, offsets or Parquet bytes. Hashed are,
    in little-endian order: `access/1\n` and the number of rows (int64); the times (int64); the
    lengths of the keys (int64), then their bytes; one byte per op (1 = write); the sizes (int64,
    -1 where null).

    Raises:
        InvalidInput: the table does not fit the ACCESS schema.
    """
    checked = check_table(table, ACCESS, "access table")
    digest = hashlib.sha256(b"access/1\n")
    digest.update(np.int64(checked.num_rows).astype("<i8").tobytes())
    key = checked.column("key")
    columns = (
        checked.column("time").cast(pa.int64()),
        pc.binary_length(key).cast(pa.int64()),
        key,
        pc.equal(checked.column("op"), "write").cast(pa.int8()),
        checked.column("size").fill_null(-1),
    )
    for column in columns:
        for start in range(0, len(column), _HASH_ROWS):
            for chunk in column.slice(start, _HASH_ROWS).chunks:
                digest.update(_logical_bytes(chunk))
    return digest.hexdigest()


def _logical_bytes(chunk: pa.Array) -> bytes:
    if pa.types.is_binary(chunk.type):
        return b"".join(chunk.to_pylist())
    values = chunk.to_numpy(zero_copy_only=False)
    return bytes(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _set(
    bits: _Bits,
    prefix: str,
    time_us: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    *,
    writes: npt.NDArray[np.bool_] | None = None,
) -> pa.Table:
    """Return the table of a set; operations and sizes are drawn here.

    Sizes are 64 bytes to 4 KiB, smaller ones as likely per doubling as larger ones.
    """
    if writes is None:
        writes = bits.percent(WRITES_PERCENT)
    scale = np.int64(64) << bits.below(6)
    size = scale + bits.below(scale)
    op = pa.array(["read", "write"]).take(pa.array(writes.astype(np.int8)))
    columns = [pa.array(time_us).cast(TIME), _keys(prefix, numbers), op, pa.array(size)]
    return pa.table(columns, schema=ACCESS)


def _keys(prefix: str, numbers: npt.NDArray[np.int64]) -> pa.Array:
    """Return `prefix/` and ten digits for each number, without a loop over rows."""
    lead = np.frombuffer(f"{prefix}/".encode(), dtype=np.uint8)
    rows = np.empty((len(numbers), len(lead) + 10), dtype=np.uint8)
    rows[:, : len(lead)] = lead
    rest = numbers
    for column in range(rows.shape[1] - 1, len(lead) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        rows[:, column] = digit + ord("0")
    return fixed_width_keys(rows)


def _steady(bits: _Bits) -> npt.NDArray[np.int64]:
    return _times(bits, np.ones(SLOTS, dtype=np.int64))[0]


def _times(
    bits: _Bits, rate: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ascending times over the whole span, and the slot that each lies in.

    Access i is a draw from the i-th of `count` equal parts of the total load, so the counts per
    slot follow `rate` closely; the first access is at the very start.

    Args:
        bits: Where chance comes from.
        rate: Relative rate per slot, whole numbers above 0 with a sum below 2**20.
    """
    chance = bits.raw32()
    chance[0] = 0
    total = int(rate.sum())
    part = (np.arange(bits.count, dtype=np.int64) << 32) + chance
    # The position in the load, in units of a 2**32nd; below 2**52.
    position = part // bits.count * total
    bounds = np.concatenate([[0], np.cumsum(rate)]) << 32
    slot = np.searchsorted(bounds, position, side="right") - 1
    fraction = (position - bounds[slot]) // rate[slot]
    return BASE_US + slot * _SLOT_US + ((fraction * _SLOT_US) >> 32), slot


def _within(bits: _Bits, bounds: tuple[int, int]) -> npt.NDArray[np.int64]:
    low, high = bounds
    return low + bits.below(high - low)


def _zipf_ranks(bits: _Bits) -> npt.NDArray[np.int64]:
    """Return ranks from 0, the probability of rank r proportional to 1/(r+1)."""
    weights = (1 << 27) // np.arange(1, KEYS + 1, dtype=np.int64)
    bounds = np.cumsum(weights)  # about 1.3e9, below 2**31
    ranks: npt.NDArray[np.int64] = np.searchsorted(bounds, bits.below(int(bounds[-1])), "right")
    return ranks
