"""The admin plane: what operators and the commands ask. Read routes.py for what there is."""

from proxy.admin.plane import admin_app

__all__ = ["admin_app"]
