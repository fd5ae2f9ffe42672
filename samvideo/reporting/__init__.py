"""Self-contained HTML reports: charts as SVG, and the templates of the pages."""
