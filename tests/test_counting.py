"Counting through Ibis: the same tables as pandas, whatever the types, the engine and the interruptions."
import json, os, shutil, signal, subprocess, sys, time
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.interactions.counting import Bins, Categories, Centres, CountResult, count_source, counting_sql, fit_bins, fit_centres, interactions_from_counts
from mmkit.interactions.estimate import quantify_interactions
from mmkit.interactions.tables import PairTables

def make(n=4000, seed=0):
    "Every kind of column; one cell in ten is missing."
    rng = np.random.default_rng(seed); g = rng.integers(0, 4, n)
    f = pd.DataFrame({"id": np.arange(n)+seed*n, "text": pd.Series(np.array(["a", "b'", "ü", "d\""])[g], dtype=object), "truth": (g > 1), "whole": g*7-3, "shop": rng.integers(0, 300, n),
                      "x": g+rng.normal(size=n), "u": g % 2+rng.normal(size=n)*.2, "w": g//2+rng.normal(size=n)*.2, "y": np.where(rng.random(n) < .7, g % 2, rng.integers(0, 2, n))})
    f["vector"] = [v.astype(np.float32) if rng.random() < .9 else None for v in np.stack([f.u, f.w, f.x], 1)]
    for c in ("text", "x", "u", "whole", "y"): f[c] = f[c].astype("object" if c == "text" else "Int64" if c in ("whole", "y") else float).mask(rng.random(n) < .1)
    return f

@pytest.fixture(scope="module")
def frame(): return make()

@pytest.fixture(scope="module")
def files(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets"); half = len(frame)//2
    frame[:half].to_parquet(folder/"part [1].parquet"); frame[half:].to_parquet(folder/"part 2.parquet"); frame[:0].to_parquet(folder/"part 3.parquet")
    return folder

def crosstab(*codes, sizes):
    out = np.zeros(sizes); keep = np.all([np.asarray(c) >= 0 for c in codes], 0); np.add.at(out, tuple(np.asarray(c)[keep] for c in codes), 1); return out

KINDS = {"text": "text", "truth": "truth", "whole": "whole", "x": "x", "columns": ["u", "w"], "vector": "vector", "shop": "shop"}

@pytest.mark.parametrize("a, b", [("text", "x"), ("truth", "columns"), ("whole", "vector"), ("vector", "columns"), ("x", "shop"), ("shop", "text")])
@pytest.mark.parametrize("how", ["sql", "batches"])
def test_the_same_counts_as_in_memory(files, frame, a, b, how):
    r = count_source(files, KINDS[a], KINDS[b], "y", assign=how, clusters=6, categorical=["shop"] if "shop" in (a, b) else [], batch=1000, sample=1000)
    table = pq.read_table(files)
    table = table.take(pa.array(np.random.default_rng(0).permutation(len(table)))).combine_chunks().to_batches()[0]
    codes = [c.codes(table) for c in r.codebook]; sizes = [len(c) for c in r.codebook]; t = r.tables
    for found, axes in ((t.n_ay, (0, 2)), (t.n_by, (1, 2)), (t.n_ab, (0, 1)), (t.n_aby, (0, 1, 2))):
        assert np.array_equal(found, crosstab(*(codes[i] for i in axes), sizes=[sizes[i] for i in axes]))
    assert r.rows == len(frame) and 0 < t.n_aby.sum() < t.n_ab.sum() < len(frame)

def test_categories_are_what_pandas_says(files, frame):
    r = count_source(files, "text", "whole", "y")
    assert r.codebook[0].values == ("a", "b'", "d\"", "ü") and r.codebook[1].values == (-3, 4, 11, 18) and r.codebook[2].values == (0, 1)
    assert np.array_equal(r.tables.n_ab, pd.crosstab(frame.text, frame.whole).to_numpy())
    assert CountResult.from_json(r.to_json()).codebook == r.codebook and "4,000 rows" in repr(r) and "行を集計" in r.summary("ja")

def test_swapping_modalities_transposes(files):
    one, two = count_source(files, "text", "x", "y", seed=3), count_source(files, "x", "text", "y", seed=3)
    assert np.array_equal(one.tables.n_aby, two.tables.n_aby.swapaxes(0, 1)) and np.array_equal(one.tables.n_ay, two.tables.n_by)

def test_same_seed_same_answer_in_another_place(files, tmp_path):
    shutil.copytree(files, tmp_path/"copy")
    one, two, other = (count_source(f, "text", ["u", "w"], "y", sample=500, seed=s) for f, s in ((files, 0), (tmp_path/"copy", 0), (files, 1)))
    assert one.provenance.fingerprint == two.provenance.fingerprint and np.array_equal(one.codebook[1].centres, two.codebook[1].centres)
    assert not np.array_equal(one.codebook[1].centres, other.codebook[1].centres)

def test_the_sample_is_not_the_first_rows(tmp_path):
    n = 50_000; drift = np.linspace(0, 1, n)  # sorted by time: the head knows only small values
    pd.DataFrame({"x": drift, "t": np.where(drift < .5, "early", "late"), "y": np.arange(n) % 2}).to_parquet(tmp_path/"t.parquet", row_group_size=5000)
    r = count_source(tmp_path/"t.parquet", "x", "t", "y", clusters=20, sample=2000)
    assert r.sample == pytest.approx((2000, 0), abs=200) and len(r.codebook[0]) == 20 or len(r.codebook[0].edges) == 19
    assert np.abs(r.codebook[0].edges-np.arange(1, 20)/20).max() < .04 and r.repeatable

def test_a_rare_modality_is_sampled_densely(tmp_path):
    rng = np.random.default_rng(0); n = 100_000; x = np.where(rng.random(n) < .005, rng.normal(size=n), np.nan)
    pd.DataFrame({"x": x, "t": rng.choice(["p", "q"], n), "y": rng.integers(0, 2, n)}).to_parquet(tmp_path/"t.parquet")
    r = count_source(tmp_path/"t.parquet", "x", "t", "y", clusters=4, sample=1000)
    assert r.sample[0] == np.isfinite(x).sum() and r.tables.n_ay.sum() == np.isfinite(x).sum()

def test_pooling_keeps_the_frequent_and_says_so(tmp_path):
    values = np.repeat([f"v{i:02d}" for i in range(40)], np.arange(40, 0, -1)*30)
    pd.DataFrame({"t": values, "s": np.tile(["p", "q"], len(values)//2), "y": np.arange(len(values)) % 3}).to_parquet(tmp_path/"t.parquet")
    r = count_source(tmp_path/"t.parquet", "t", "s", "y")
    assert r.codebook[0].values == tuple(f"v{i:02d}" for i in range(20)) and len(r.codebook[0]) == 21
    assert r.pooled == {"t": sum(range(1, 21))*30} and r.tables.n_ay[20].sum() == r.pooled["t"] and "other" in r._repr_html_() and "その他" in r.notes("ja")[0]

def test_odd_names_of_columns_and_files(tmp_path):
    n = np.arange(600); names = ['mmkit_a_u0', 'b"; DROP TABLE x; --', "a_known", "n", "<b>by</b>"]
    f = pd.DataFrame(dict(zip(names, [np.sin(n), np.cos(n), np.array(["p", "q"])[n % 2], n % 2, n % 3]))); f.to_parquet(tmp_path/"it's [odd]*.parquet")
    for how in ("sql", "batches"):
        r = count_source(tmp_path/"it's [odd]*.parquet", names[:2], names[2], names[3], assign=how, clusters=4); assert r.tables.n_aby.sum() == 600
    assert "<b>by" not in count_source(tmp_path, names[0], names[2], names[4])._repr_html_()

def test_types_that_differ_a_little_between_files(tmp_path):
    for i, kind in enumerate(("int8", "int64", "float32")): pd.DataFrame({"a": pd.Series(np.arange(300) % 5, dtype=kind), "b": ["p", "q"]*150, "y": np.arange(300) % 2}).to_parquet(tmp_path/f"{i}.parquet")
    assert np.array_equal(count_source(tmp_path, "a", "b", "y").tables.n_ay, np.full((5, 2), 90))

@pytest.mark.parametrize("change, words", [
    (dict(modality_a="txt"), "Did you mean `text`"), (dict(modality_b="text"), "in both modalities"), (dict(label="u"), "more than 100 different"), (dict(label="text"), "both the label and a modality"),
    (dict(label="vector"), "vectors"), (dict(modality_a=["text", "u"]), "does not hold plain numbers"), (dict(modality_a={"p": "u", "q": "w"}), "one was expected"), (dict(memory_limit="lots"), "'1GB'"),
    (dict(clusters=1), "clusters"), (dict(assign="spark"), "assign"), (dict(categorical=["shp"]), "no column `shp`"), (dict(source="nowhere/*.parquet"), "no Parquet file"), (dict(source=[]), "expected"), (dict(source=7), "int"),
    (dict(codebook=(Categories(("truth",), (False, True), False), Bins(("x",), np.array([0.])), Categories(("y",), (0, 1), False))), "same question")])
def test_refused(files, change, words):
    with pytest.raises(InputError, match=words): count_source(**(dict(source=files, modality_a="text", modality_b="x", label="y", categorical=["text"] if "categorical" not in change and change.get("modality_a") is None else ()) | change))

def table(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path/"t.parquet"); return tmp_path/"t.parquet"

@pytest.mark.parametrize("columns, words", [
    (dict(a=["p", "q"]*50, b=[float("inf")]+[1., 2.]*49+[3.], y=[0, 1]*50), "infinite"), (dict(a=[None]*100, b=[1., 2.]*50, y=[0, 1]*50), "missing in all"),
    (dict(a=pa.array([None]*100, pa.string()), b=[1., 2.]*50, y=[0, 1]*50), "missing in all"), (dict(a=["p", "q"]*50, b=[float("nan")]*100, y=[0, 1]*50), "missing in all"),
    (dict(a=["p", "q"]*50, b=[1., 2.]*50, y=pa.array([None]*100, pa.int8())), "missing in all"), (dict(a=["p"]*100, b=[1., 2.]*50, y=[0, 1]*50), "same value"), (dict(a=["p", "q"]*50, b=[2.]*100, y=[0, 1]*50), "same value"),
    (dict(a=["p", "q"]*50, b=[1., 2.]*50, y=[0]*100), "single value"), (dict(a=["p", "q"]*50, b=[[1., 2.]]*99+[[1.]], y=[0, 1]*50), "vectors of one length"),
    (dict(a=pa.array([0]*100, pa.date32()), b=[1., 2.]*50, y=[0, 1]*50), "dates to days"), (dict(a=pa.array([], pa.string()), b=pa.array([], pa.float64()), y=pa.array([], pa.int8())), "no rows"),
    (dict(a=[f"n{i}" for i in range(2000)], b=[1., 2.]*1000, y=[0, 1]*1000), "names the rows"), (dict(a=["p", "q"]*50, b=[1., 2.]*50, y=[0., float("inf")]*50), "infinite")])
def test_useless_columns(tmp_path, columns, words):
    with pytest.raises(InputError, match=words): count_source(table(tmp_path, **columns), "a", "b", "y")

def test_infinity_outside_the_sample_is_found_while_counting(tmp_path):
    x = np.random.default_rng(0).normal(size=20_000); x[7] = np.inf
    f = table(tmp_path, a=["p", "q"]*10_000, x=x, z=x[::-1], y=[0, 1]*10_000)
    book = count_source(table(tmp_path, a=["p", "q"]*10_000, x=np.where(np.isinf(x), 0, x), z=np.arange(20_000.), y=[0, 1]*10_000), "a", ["x", "z"], "y").codebook
    f = table(tmp_path, a=["p", "q"]*10_000, x=x, z=x[::-1], y=[0, 1]*10_000)
    for how in ("sql", "batches"):
        with pytest.raises(InputError, match="infinite values in at least"): count_source(f, "a", ["x", "z"], "y", codebook=book, assign=how)

def test_vectors_of_another_length_and_new_values(tmp_path):
    rng = np.random.default_rng(0); v = rng.normal(size=(200, 3)).tolist()
    r = count_source(table(tmp_path, a=["p", "q"]*100, b=v, y=[0, 1, 1, 0]*50), "a", "b", "y", clusters=3)
    for how in ("sql", "batches"):
        with pytest.raises(InputError, match="another length"): count_source(table(tmp_path, a=["p", "q"]*100, b=[x[:2] for x in v], y=[0, 1, 1, 0]*50), "a", "b", "y", codebook=r.codebook, assign=how)
        with pytest.raises(InputError, match="does not know"): count_source(table(tmp_path, a=["p", "new"]*100, b=v, y=[0, 1, 1, 0]*50), "a", "b", "y", codebook=r.codebook, assign=how)

def test_files_that_are_no_parquet(tmp_path, files):
    (tmp_path/"t.parquet").write_bytes(next(files.glob("part 2*")).read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read as Parquet"): count_source(tmp_path, "text", "x", "y")
    pd.DataFrame({"text": ["p"], "x": ["q"], "y": [1]}).to_parquet(tmp_path/"t.parquet")
    with pytest.raises(InputError, match="differ in schema"): count_source([files, tmp_path/"t.parquet"], "text", "x", "y")

CHILD = "import sys, time; from mmkit.interactions.counting import count_source\ncount_source(sys.argv[1], 'text', 'x', 'y', batch=1000, resume=sys.argv[2], progress=lambda d, t, w: (print(d, flush=True), time.sleep(60 if d >= 2000 else 0)))"
def test_a_killed_count_continues(files, tmp_path):
    partial = tmp_path/"partial.json"
    child = subprocess.Popen([sys.executable, "-c", CHILD, files, partial], stdout=subprocess.PIPE, text=True)
    assert [child.stdout.readline().strip() for _ in range(2)] == ["1000", "2000"]
    child.send_signal(signal.SIGKILL); child.wait(); assert partial.exists()
    ask, reports = dict(modality_a="text", modality_b="x", label="y", batch=1000), []
    r = count_source(files, **ask, resume=partial, progress=lambda *x: reports.append(x[:2]))
    assert reports == [(3000, 4000), (4000, 4000)] and not partial.exists()
    assert r.provenance.fingerprint == count_source(files, **ask).provenance.fingerprint

def test_a_partial_count_of_something_else(files, tmp_path):
    mine = tmp_path/"c"; shutil.copytree(files, mine); partial = tmp_path/"p.json"
    class Stop(Exception): pass
    def stop(*_): raise Stop
    ask = dict(modality_a="text", modality_b="x", label="y", batch=1000, resume=partial)
    with pytest.raises(Stop): count_source(mine, **ask, progress=stop)
    os.utime(mine/"part 2.parquet", ns=(1, 1))
    with pytest.warns(WeakInputWarning, match="starts again"): r = count_source(mine, **ask)
    assert r.rows == 4000
    for text in ("notes of mine", '{"a": 1}'):
        partial.write_text(text)
        with pytest.raises(InputError, match="not be overwritten"): count_source(mine, **ask)
        assert partial.read_text() == text

def test_a_connection_of_the_user_keeps_its_settings(frame):
    import ibis
    con = ibis.duckdb.connect(memory_limit="3GB", threads=1); con.create_table("t", frame.drop(columns="vector")); settings = "select current_setting('memory_limit'), current_setting('threads')"
    before = con.raw_sql(settings).fetchall()
    r = count_source((con, "t"), "text", ["u", "w"], "y", sample=500)
    assert con.raw_sql(settings).fetchall() == before and con.list_tables() == ["t"] and r.repeatable
    with pytest.raises(InputError, match="Did you mean `t`|no table"): count_source((con, "tt"), "text", "x", "y")
    with pytest.raises(InputError, match="Parquet files only"): count_source((con, "t"), "text", "x", "y", resume="p.json")
    unnamed = con.table("t").drop("id")
    assert not count_source(unnamed, "text", "x", "y", sample=500).repeatable and count_source(unnamed, "text", "truth", "y").repeatable

BOOK = (Categories(("colour",), ("blue", "it's"), True), Centres(("s1", "s2"), False, np.zeros(2), np.eye(2), np.arange(6.).reshape(3, 2)), Categories(("y",), (0, 1), False))
BINS = (Bins(("price",), np.arange(1., 8)), Centres(("v",), True, np.zeros(2), np.eye(2), np.arange(6.).reshape(3, 2)), BOOK[2])
@pytest.mark.parametrize("dialect", ["duckdb", "pyspark", "bigquery", "snowflake", "postgres"])
def test_the_sql_each_backend_would_get(dialect):
    import sqlglot
    for book, schema in ((BOOK, {"colour": "string", "s1": "float64", "s2": "float32", "y": "int64"}), (BINS, {"price": "decimal(9, 2)", "v": "array<float64>", "y": "int64"})):
        sql = counting_sql(schema, book, dialect)
        tree = sqlglot.parse_one(sql, dialect={"pyspark": "spark"}.get(dialect, dialect))
        assert tree.find(sqlglot.exp.Group) and tree.find(sqlglot.exp.Count) and "records" in sql
        assert list(tree.find_all(sqlglot.exp.Greatest)) and len(tree.selects) >= 4

def test_spark_sql_is_written_without_spark():
    code = "import sys; sys.modules['pyspark'] = None; sys.path.insert(0, 'tests'); import test_counting as t; print(t.counting_sql({'colour': 'string', 's1': 'float64', 's2': 'float64', 'y': 'int64'}, t.BOOK, 'pyspark'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True); assert "GROUP BY" in done.stdout, done.stderr

def test_too_many_products_for_sql():
    wide = Centres(tuple(f"c{i}" for i in range(900)), False, np.zeros(900), np.ones((900, 5)), np.ones((3, 5)))
    from mmkit.interactions.counting import _how, _count_in_batches
    with pytest.raises(InputError, match="assign='batches'"): _how((wide,), "pyspark", "auto")
    assert _how((wide,), "duckdb", "auto") is _count_in_batches and _how((wide,), "pyspark", "batches") is _count_in_batches

@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_a_local_spark_counts_the_same(tmp_path):
    pytest.importorskip("pyspark"); import ibis
    from pyspark.sql import SparkSession
    f = make(2000).drop(columns=["truth"]); f.to_parquet(tmp_path/"t.parquet")
    local = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.sql.warehouse.dir": str(tmp_path/"w")}
    spark = SparkSession.builder.master("local[1]").config(map=local).getOrCreate()
    try:
        t = ibis.pyspark.connect(spark).read_parquet(str(tmp_path/"t.parquet"), table_name="t")
        ours = count_source(tmp_path/"t.parquet", "text", ["u", "w"], "y", clusters=4)
        theirs = count_source(t, "text", ["u", "w"], "y", clusters=4)  # learns the same codes: all rows are in the sample
        for n in ("n_ay", "n_by", "n_ab", "n_aby"): assert np.array_equal(getattr(ours.tables, n), getattr(theirs.tables, n))
        assert theirs.rows == 2000 and theirs.repeatable and theirs.tables.n_aby.sum() > 1000
    finally: spark.stop()

def test_counts_give_the_answer_that_records_give(tmp_path):
    rng = np.random.default_rng(0); n = 3000; a, b = rng.integers(0, 3, n), rng.integers(0, 3, n); y = np.where(rng.random(n) < .7, (a+b) % 2, rng.integers(0, 2, n))
    pd.DataFrame({"a": a, "b": b, "y": y}).to_parquet(tmp_path/"t.parquet")
    ours = count_source(tmp_path/"t.parquet", "a", "b", "y").quantify(n_boot=60, n_null=60, seed=1)
    want = quantify_interactions(MultimodalRecords({"a": a[:, None], "b": b[:, None]}, label=y, label_name="y"), discretise="kmeans", n_boot=60, n_null=60, seed=1)
    assert ours.plug_in == pytest.approx(want.plug_in) and ours.mode == want.mode == "supervised" and ours.notes == want.notes and ours.counts == want.counts
    for q in want.quantities: assert (e := ours.quantities[q]).n == want.quantities[q].n and (e.value, e.low, e.high, e.chance) == pytest.approx((lambda w: (w.value, w.low, w.high, w.chance))(want.quantities[q]), nan_ok=True)
    assert [v.value for v in ours.verdicts()] == [v.value for v in want.verdicts()] and ours.from_json(ours.to_json()).label == "y"

def test_separate_samples_and_what_they_refuse():
    rng = np.random.default_rng(0); p = rng.dirichlet(np.ones(8)).reshape(2, 2, 2); draw = lambda: rng.multinomial(5000, p.ravel()).reshape(2, 2, 2).astype(float)
    t = PairTables(draw().sum(1), draw().sum(0), draw().sum(2), np.zeros((2, 2, 2))); r = interactions_from_counts(t, n_boot=50, n_null=50)
    assert r.mode == "semi-supervised" and r.quantities["synergy_upper"].n == 5000 and "synergy" not in r.quantities
    with pytest.raises(InputError, match="only 0 records"): interactions_from_counts(t, mode="supervised")
    with pytest.raises(InputError, match="margin"): interactions_from_counts(PairTables(t.n_ay, t.n_by*[1, 30], t.n_ab, t.n_aby))
    with pytest.raises(InputError, match="There are only"): interactions_from_counts(PairTables(t.n_ay, t.n_by, t.n_ab*0, t.n_aby))

def test_a_hundred_million_and_a_billion_rows_resample():
    p = np.random.default_rng(0).dirichlet(np.ones(18)).reshape(3, 3, 2)
    widths = []
    for n in (1e6, 1e8, 5e9):
        c = np.round(p*n); r = interactions_from_counts(PairTables(c.sum(1), c.sum(0), c.sum(2), c), n_boot=50, n_null=50); e = r.quantities["total"]
        widths.append(e.high-e.low); assert e.low <= r.plug_in["total"]+1e-6 and r.counts["n_aby"] == int(c.sum())
    assert widths[0]/widths[1] == pytest.approx(10, rel=.4) and widths[1]/widths[2] == pytest.approx(3, rel=.4)

@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    code = "import resource, sys; from mmkit.interactions.counting import count_source; count_source(sys.argv[1], ['x', 'z'], 'b', 'y', clusters=8, memory_limit='300MB'); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e3)"
    import duckdb; peaks = []
    for n in (200_000, 2_000_000):
        duckdb.execute(f"copy (select random() x, random() z, (random()*5)::int b, (random()*2)::int y from range({n})) to '{tmp_path}/{n}.parquet'")
        peaks.append(float(subprocess.run([sys.executable, "-c", code, tmp_path/f"{n}.parquet"], capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0]+150 and peaks[1] < 900, peaks
