"""The engine: the only place that waits. Tasks, sockets, threads and time live here (Trio), and
each task asks a plain decider of the floor below what to do next."""
