"""Networks whose weights and activations are one bit each, trained through latent weights."""
