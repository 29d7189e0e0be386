"""The analytical catalog. Import the module you need; nothing is re-exported.

    catalog     the façade that everybody else uses
      ├── commit      put-if-absent loop: catch up, rebase, offer, settle
      ├── uploads     the Parquet parts of one commit: encoded once, uploaded when needed
      ├── compact, expire, gc    upkeep: few objects, old rows out, garbage away
      ├── upkeep, merging        what they stand on: transactions, rows written anew
      ├── partitions  rows cut by day; objects that cannot hold a time are left out
      ├── audit       reads everything again and lists what is wrong
      ├── repair      makes a damaged catalog open again, and says what is lost
      ├── survey      what audit and repair go by: a reader that goes on after faults
      ├── travel      the catalog as it was after a record or at a time
      ├── reading     datasets and tables back, with their checks
      ├── chain       store to verified state: checkpoint, log behind it, hash chain
      ├── registry    pure fold of records to state; pure plan of a batch on a state
      ├── checkpoint  bytes of one checkpoint; the hint
      ├── index       manifests by name: an Arrow table and what changed since
      ├── record      bytes of one log record
      ├── anchor      bytes of the FORMAT object
      ├── parquet     bytes of data files
      ├── sealed      Parquet files that carry their own hash
      ├── seal        an object's hash of itself
      └── layout, values, faults

Every module below `commit` is a pure function of its arguments or only reads. No lock, thread,
clock or randomness lives here: stores, Clock and Rng are passed in.
"""
