"""Crypto Pay, the API of @CryptoBot."""
