"""Tests. `unit` needs no server and no process of its own; everything else is integration and runs on real stores."""
