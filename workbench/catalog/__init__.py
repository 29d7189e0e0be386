"""The analytical catalog. Import the module you need; nothing is re-exported.

    catalog     the façade that everybody else uses
      ├── commit      put-if-absent loop: catch up, rebase, offer, settle
      ├── uploads     the Parquet parts of one commit: encoded once, uploaded when needed
      ├── audit       reads everything again and lists what is wrong
      ├── reading     datasets and tables back, with their checks
      ├── chain       store to verified records to state
      ├── registry    pure fold of records to state; pure plan of a batch on a state
      ├── record      bytes of one log record
      ├── anchor      bytes of the FORMAT object
      ├── parquet     bytes of data files
      ├── seal        an object's hash of itself
      └── layout, values, faults

Every module below `commit` is a pure function of its arguments or only reads. No lock, thread,
clock or randomness lives here: stores, Clock and Rng are passed in.
"""
