"""The dashboard: Streamlit pages that read the store and nothing else."""
