"""The store on Redis or Valkey: scripts do the atomic part, the server owns the clock."""
