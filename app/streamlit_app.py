"""The script that Streamlit runs for each session.

It stands outside `app/dashboard`, as Streamlit makes a page of its own of every module in a folder
`pages` beside the script.
"""

from app.dashboard.main import main

main()
