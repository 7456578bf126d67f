"""Discovery: propose flows, measure them, keep the frontier. Stands on the ledger and the measuring packages."""
