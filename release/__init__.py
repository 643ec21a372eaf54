"""Builds what a release consists of: images, chart, bills of materials. Every step runs without publishing."""
