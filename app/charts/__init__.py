"""Charts and maps, of Altair and pydeck for pages (`web_*`) and of matplotlib for files."""
