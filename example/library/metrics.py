"""Give the numbers of this process to Prometheus; needs prometheus-client."""

from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from cachalot.contrib.prometheus import CachalotCollector

registry = CollectorRegistry()
registry.register(CachalotCollector())


def metrics(request: HttpRequest) -> HttpResponse:
    """Show them in the text format that Prometheus reads."""
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
