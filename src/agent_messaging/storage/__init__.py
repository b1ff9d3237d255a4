"""The storage seam (`ports`), what its backends share, and the backends."""
