"""What two or more members of Vigie exchange: events, feature specs, scores, offers, errors."""
