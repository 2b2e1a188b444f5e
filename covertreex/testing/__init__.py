"""The conformance kit: does a backend keep the contract?"""
