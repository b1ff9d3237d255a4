"""The audit log, under the name by which the reference imports it. It is fed by the whole package: see `audit`."""

from ..audit import FileLogger, LogFile, LogStats, disable_file_logging, enable_file_logging, get_file_logger

__all__ = ["FileLogger", "LogFile", "LogStats", "disable_file_logging", "enable_file_logging", "get_file_logger"]
