"""Whole processes against real stores: started, killed, frozen and stopped, and judged by what they recorded."""
