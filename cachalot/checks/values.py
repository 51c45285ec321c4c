"""Whether settings have values that they may have, and names that exist."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks

from cachalot.checks.messages import as_message, listed, message, suggestion
from cachalot.rules import WrongSetting
from cachalot.settings import SETTINGS, configured

#: What connects cachalot to other packages and is no app, and what switches each of them on.
_MODULES = {
    "cachalot.contrib.opentelemetry": "call its instrument()",
    "cachalot.contrib.prometheus": "register its CachalotCollector",
}


def check_values(**kwargs: object) -> list[checks.CheckMessage]:
    """Check every value by the rule of its setting."""
    messages = []
    for name, setting in SETTINGS.items():
        try:
            setting.read(name, configured(name))
        except WrongSetting as wrong:
            messages.append(as_message(wrong.message_id, wrong.message, wrong.hint))
    return messages


def right_value(name: str) -> Any:
    """Return a setting's value as it is used; None for a wrong one, which has a message already."""
    try:
        return SETTINGS[name].read(name, configured(name))
    except WrongSetting:
        return None


def check_apps(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that the apps named are installed."""
    messages = []
    labels = listed(apps.app_configs)
    for name in ("CACHALOT_ONLY_CACHABLE_APPS", "CACHALOT_UNCACHABLE_APPS"):
        for label in right_value(name) or ():
            if label not in apps.app_configs:
                # "django.contrib.auth" is meant to be "auth".
                near = suggestion(label.rpartition(".")[2], apps.app_configs)
                messages.append(
                    message(
                        "cachalot.E011",
                        name=name,
                        label=label,
                        suggestion=near,
                        labels=labels,
                    )
                )
    return messages


def check_modules(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that what is no app is not installed as one, which would do nothing."""
    return [
        message("cachalot.W020", module=module, use=use)
        for module, use in _MODULES.items()
        if apps.is_installed(module)
    ]


def check_names(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that every ``CACHALOT_`` name in Django's settings is one that cachalot reads."""
    known = ", ".join(SETTINGS)
    return [
        message(
            "cachalot.W006",
            name=name,
            value=getattr(settings, name),
            suggestion=suggestion(name, SETTINGS).strip() or f"The settings are {known}.",
        )
        for name in sorted(dir(settings))
        if name.startswith("CACHALOT_") and name not in SETTINGS
    ]
