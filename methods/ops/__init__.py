"""Operations that methods share."""
