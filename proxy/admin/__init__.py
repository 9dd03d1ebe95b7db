"""The admin plane, for operators and the commands. routes.py lists its endpoints."""

from proxy.admin.plane import admin_app

__all__ = ["admin_app"]
