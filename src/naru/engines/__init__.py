"""The gateway's side of local engines: their processes, started when they are wanted and watched while they run."""
