"""The deterministic simulators. Import the module you need; nothing is re-exported.

    python -m workbench.sim.catalog --schedules 10000
    python -m workbench.sim.cluster --schedules 10000

    campaign          the command of both: one seed again, or many over processes, summed up
      ├── catalog         writers on one failing store
      │     └── catalog_world     from one seed
      │           ├── catalog_auditor  what must hold, checked at every effect
      │           ├── catalog_actions, catalog_upkeep   what a writer does, and means by it
      │           ├── object_store     a store in memory, and one that fails
      │           ├── faults           which kinds, how often: drawn per seed
      │           ├── tuning           small checkpoints, shared decoding
      │           └── scheduler, ports virtual time; one actor runs at a time
      └── cluster         whole nodes on failing disks and a failing network
            └── cluster_world     from one seed; its two phases
                  ├── cluster_auditor, cluster_history   what must hold; what clients were told
                  ├── cluster_nemesis, cluster_clients   what befalls it, what is asked of it
                  ├── cluster_node     the production host, with a shell around it
                  ├── cluster_disk, cluster_network      what a host stands on
                  ├── cluster_faults   which kinds, how often: drawn per seed
                  └── cluster_time     virtual time: a heap of events, no threads

Everything that happens follows from one integer: time is virtual, chance comes from one seeded
generator. The catalog blocks in the middle of its calls, so its writers run on threads that are
only coroutines here: exactly one of them runs, and says itself who is next. The host is sans-IO
and needs none. What is driven is the production code, through the ports it has anyway.
"""
