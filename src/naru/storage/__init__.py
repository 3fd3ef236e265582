"""What outlives the process: keys and the ledger, in SQLite behind a small port."""
