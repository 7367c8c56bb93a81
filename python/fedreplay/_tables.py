"""Tables of a run: Parquet files that are read when somebody asks for their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # By other names, since methods have those of the packages.
    import pyarrow
    import pyarrow.dataset
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame
    from polars import LazyFrame

_HEAD = 5


class Table:
    """A table of a run.

    It is read when its rows are asked for; its length and its columns come from the metadata of its files. DuckDB, Polars and pandas
    take the object as it is: ``duckdb.sql("from tasks")`` with a variable ``tasks``, ``polars.DataFrame(run.tasks)``.

    docs/ledger.md has the meaning and the unit of each column.
    """

    name: str
    """Name of the table."""
    files: tuple[Path, ...]
    """Parquet files of the table, at least one. A run that goes on adds some, so ask the run for its table again."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name = name
        self.files = tuple(files)

    @property
    def dataset(self) -> pyarrow.dataset.Dataset:
        """The table as a dataset of PyArrow, for scans with filters."""
        import pyarrow.dataset

        return pyarrow.dataset.dataset([str(file) for file in self.files], format="parquet")

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @property
    def schema(self) -> pyarrow.Schema:
        """Names, types, units and meanings of the columns; the latter two in the fields' metadata."""
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(self.files[0])

    @property
    def units(self) -> dict[str, str]:
        """Unit of each column."""
        return {column.name: (column.metadata or {}).get(b"unit", b"").decode() for column in self.schema}

    def __len__(self) -> int:
        import pyarrow.parquet

        return sum(int(pyarrow.parquet.read_metadata(file).num_rows) for file in self.files)

    def __bool__(self) -> bool:
        """A table is there, with rows or without."""
        return True

    def arrow(self, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Reads the rows, in the order in which they were written.

        Args:
            columns: Columns to read; ``None`` reads all.
        """
        return self.dataset.to_table(columns=None if columns is None else list(columns))

    def polars(self, columns: Sequence[str] | None = None) -> PolarsFrame:
        """Reads the rows as a data frame of Polars."""
        frame = self.lazy() if columns is None else self.lazy().select(columns)
        read: PolarsFrame = frame.collect()
        return read

    def lazy(self) -> LazyFrame:
        """Returns a lazy frame of Polars, which reads what a query needs."""
        import polars

        return polars.scan_parquet([str(file) for file in self.files])

    def pandas(self, columns: Sequence[str] | None = None) -> PandasFrame:
        """Reads the rows as a data frame of pandas.

        Whole numbers have the types of pandas that may be missing, such as ``Int64``: nanoseconds of a long run do not fit into floats.
        """
        import pandas
        import pyarrow

        types = {
            pyarrow.int64(): pandas.Int64Dtype(),
            pyarrow.uint64(): pandas.UInt64Dtype(),
            pyarrow.uint32(): pandas.UInt32Dtype(),
        }
        return self.arrow(columns).to_pandas(types_mapper=types.get)

    def duckdb(self, connection: DuckDBPyConnection | None = None) -> DuckDBPyRelation:
        """Returns the table as a relation of DuckDB, which reads what a query needs.

        Args:
            connection: Connection that queries it; ``None`` is DuckDB's default connection.
        """
        import duckdb

        connection = duckdb.default_connection() if connection is None else connection
        return connection.read_parquet([str(file) for file in self.files])

    def head(self, rows: int = _HEAD) -> pyarrow.Table:
        """Reads the first rows."""
        return self.dataset.head(rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.dataset.scanner().to_reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<Table {self.name}: {len(self)} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        from fedreplay._html import table

        head = self.head()
        rows = [list(row.values()) for row in head.to_pylist()]
        units = self.units
        columns = [f"{name} [{units[name]}]" if units[name] not in ("", "name", "text", "index") else name for name in self.columns]
        return f"<p><b>{self.name}</b>: {len(self):,} rows, the first {len(rows)}</p>{table(columns, rows)}"


def tables_in(folder: Path) -> dict[str, Table]:
    """Returns the tables in the folder of a run, by name. No file is opened."""
    found: dict[str, Table] = {}
    ledger = folder / "ledger"
    for table in sorted(ledger.iterdir()) if ledger.is_dir() else []:
        files = sorted(table.glob("*.parquet"))
        if files:
            found[table.name] = Table(table.name, files)
    orders = folder / "timing" / "orders.parquet"
    if orders.is_file():
        found["orders"] = Table("orders", [orders])
    return found


def database(tables: dict[str, Table]) -> DuckDBPyConnection:
    """Returns a DuckDB connection in which each table has its name."""
    import duckdb

    connection = duckdb.connect()
    for name, table in tables.items():
        files = ", ".join("'" + str(file).replace("'", "''") + "'" for file in table.files)
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{files}])')
    return connection
