"""Result cells of the GLUE comparison, and the paper's tables and figures made from them."""
