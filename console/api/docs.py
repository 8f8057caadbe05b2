"""The routes of docs."""

from fastapi import APIRouter

from console.state import Console


def routes(_: Console) -> APIRouter:
    """Make the routes."""
    return APIRouter()
