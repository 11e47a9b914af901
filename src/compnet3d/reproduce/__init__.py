"""The paper's experiments: train what is missing, evaluate, and write tables and figures (`compnet3d reproduce`)."""
