"""The deterministic simulator. Import the module you need; nothing is re-exported.

    python -m workbench.sim.catalog --schedules 10000

    catalog           the command: one seed again, or a campaign over many
      └── campaign        seeds over processes, what they found, summed up
            └── catalog_world     writers on one failing store, from one seed
                  ├── catalog_auditor  what must hold, checked at every effect
                  ├── catalog_actions, catalog_upkeep   what a writer does, and means by it
                  ├── object_store     a store in memory, and one that fails
                  ├── faults           which kinds, how often: drawn per seed
                  ├── tuning           small checkpoints, shared decoding
                  └── scheduler, ports virtual time; one actor runs at a time

Everything that happens follows from one integer: time is virtual, chance comes from one seeded
generator, and threads are only coroutines here: exactly one of them runs, and it says itself
who is next. The catalog that is driven is the production code, through the ports it has anyway.
"""
