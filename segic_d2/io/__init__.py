"""Files of people and arrays: pictures, masks, names, results."""
