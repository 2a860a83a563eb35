"""Where milliseconds come from: compilations, tables, the tile model."""
