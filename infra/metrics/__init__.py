"""What the parts of the studio do, in figures that Prometheus reads, and the alerts and dashboards made of them."""
