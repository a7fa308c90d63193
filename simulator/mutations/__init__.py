"""Mutations: small changes all over the stages and steps, made by a tool, and which of them no run notices."""
