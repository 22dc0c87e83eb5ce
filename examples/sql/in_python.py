"""The same in Python: tables of any library by name, and calls over columns."""

import pyarrow as pa
import sluice

houses = pa.table({"sqft": [820.0, 1250.0, None], "rooms": [3.0, 4.0, 5.0]})
print(sluice.sql("select sqft, catalog_call('price', sqft, rooms) as price from houses", houses=houses).to_pylist())
print(sluice.catalog_call("price", houses["sqft"], 3).to_pylist())
