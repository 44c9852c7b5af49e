"""The tracking store: MLflow writes it; SQLite stores are read with the standard library.

``records`` asks what there is, ``writer`` records attempts, ``template`` makes a new store without
waiting for MLflow's migrations.
"""
