"""SegIC (ECCV 2024): correspondence, instructions, and a light mask decoder."""
