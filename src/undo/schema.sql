-- What `querygate undo install` sets up in a database. Everything belongs to the role that runs it, which should be the one of
-- [undo].user; clients can read none of it.

CREATE SCHEMA querygate_undo;
REVOKE ALL ON SCHEMA querygate_undo FROM PUBLIC;
GRANT USAGE ON SCHEMA querygate_undo TO PUBLIC;

-- The key of the gate's warrants, as HMAC uses it (RFC 2104).
CREATE TABLE querygate_undo.key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL
);

-- One row for each request whose rows are kept.
CREATE TABLE querygate_undo.request (
    request text PRIMARY KEY,
    warrant text NOT NULL,
    pid integer NOT NULL,
    txid bigint NOT NULL,
    first_change bigint NOT NULL,
    -- 'open' while its statement runs, then 'kept' or 'dropped'.
    state text NOT NULL,
    strict boolean NOT NULL,
    max_rows bigint NOT NULL,
    max_bytes bigint NOT NULL,
    total_bytes bigint NOT NULL,
    why text,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    kept_at timestamptz NOT NULL DEFAULT now(),
    kept_until timestamptz NOT NULL,
    undone_at timestamptz,
    undone_by text,
    -- The transaction that undoes it at this moment, or did last.
    undoing bigint
);
CREATE INDEX ON querygate_undo.request (kept_until);

-- One row for each undo that was committed, until the gate has put it on record.
CREATE TABLE querygate_undo.undoing (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request text NOT NULL REFERENCES querygate_undo.request ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    role text NOT NULL,
    pid integer NOT NULL,
    restored bigint NOT NULL,
    conflicts bigint NOT NULL
);

CREATE SEQUENCE querygate_undo.changes;

-- A ticket that a session has drawn in this transaction. Never lasts: `begin` takes it, and a rollback, to a savepoint too, takes it away.
CREATE TABLE querygate_undo.ticket (
    ticket text NOT NULL,
    pid integer NOT NULL,
    txid bigint NOT NULL
);

-- One row for each row that was written.
CREATE TABLE querygate_undo.change (
    request text NOT NULL REFERENCES querygate_undo.request ON DELETE CASCADE,
    seq bigint NOT NULL,
    relation oid NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    op "char" NOT NULL CHECK (op IN ('D', 'U', 'I')),
    -- Not written by a trigger or a function that one called. (What foreign keys do counts as direct.)
    direct boolean NOT NULL,
    -- The row before and after, as the table's row type writes and reads it.
    before text,
    after text,
    -- Columns that an UPDATE changed.
    changed text[],
    bytes bigint NOT NULL,
    -- The table's columns and their types at that time.
    columns text NOT NULL,
    undone boolean NOT NULL DEFAULT false,
    PRIMARY KEY (request, seq)
);

CREATE FUNCTION querygate_undo.columns_of(relation oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod), attgenerated), ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$$;

CREATE FUNCTION querygate_undo.size(bytes bigint) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT replace(pg_size_pretty(bytes), 'bytes', 'B') $$;

-- The rows of a request are not kept any more, and why; where they have to be, its statement fails.
CREATE FUNCTION querygate_undo.give_up(which text, reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT r.strict FROM querygate_undo.request r WHERE r.request = which) THEN
        RAISE EXCEPTION USING ERRCODE = '54000',
            MESSAGE = 'querygate: the statement was undone: its rows could not be kept for an undo',
            DETAIL = format('Request %s: %s.', which, reason),
            HINT = 'Narrow the statement, or ask the owners of the gate''s policy about the rule''s undo.';
    END IF;
    UPDATE querygate_undo.request SET state = 'dropped', why = reason, rows = 0, bytes = 0 WHERE request = which;
    DELETE FROM querygate_undo.change WHERE request = which;
END $$;

-- Draws a ticket, which a warrant has to name: so a warrant is good for once, also where what it was for is rolled back. Anybody may; one
-- session has one at most.
CREATE FUNCTION querygate_undo.draw() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drawn text := gen_random_uuid();
BEGIN
    DELETE FROM querygate_undo.ticket WHERE pid = pg_backend_pid();
    INSERT INTO querygate_undo.ticket VALUES (drawn, pg_backend_pid(), txid_current());
    RETURN drawn;
END $$;

-- Begins keeping. Anybody may call it, and it does nothing without a warrant of the gate's for this session and for the ticket it has drawn.
CREATE FUNCTION querygate_undo.begin(which text, expires bigint, rows bigint, bytes bigint, total bigint, seconds bigint,
                                     strict boolean, drawn text, warrant text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said bytea := convert_to(concat_ws('|', 'querygate undo 2', which, pg_backend_pid(), expires, rows, bytes, total, seconds,
                                       CASE WHEN strict THEN 'strict' ELSE 'lax' END, drawn), 'UTF8');
    used bigint;
BEGIN
    DELETE FROM querygate_undo.ticket t WHERE t.ticket = drawn AND t.pid = pg_backend_pid() AND t.txid = txid_current();
    IF NOT FOUND OR drawn IS NULL OR warrant IS DISTINCT FROM (SELECT encode(sha256(outer_key || sha256(inner_key || said)), 'hex') FROM querygate_undo.key)
        OR expires < extract(epoch FROM clock_timestamp())
    THEN
        IF NOT strict THEN
            -- The gate lets the statement run without.
            RETURN 'refused';
        END IF;
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'querygate: the gate has given no warrant to keep rows in this session',
            HINT = 'The secret in [undo] may not be the one the schema was set up with, a pooler may stand before the server, or the clocks differ.';
    END IF;
    INSERT INTO querygate_undo.request (request, warrant, pid, txid, first_change, state, strict, max_rows, max_bytes, total_bytes, kept_until)
    VALUES (which, warrant, pg_backend_pid(), txid_current(), nextval('querygate_undo.changes'), 'open', strict, rows, bytes, total,
            now() + make_interval(secs => seconds));
    SELECT coalesce(sum(r.bytes), 0)::bigint INTO used FROM querygate_undo.request r WHERE r.state = 'kept' AND r.kept_until > now();
    IF used >= total THEN
        PERFORM querygate_undo.give_up(which, format('%s are kept already, which is the limit of all together', querygate_undo.size(used)));
        RETURN 'dropped';
    END IF;
    PERFORM set_config('querygate_undo.capture', which, true);
    RETURN 'open';
END $$;

-- The trigger on a table whose rows can be kept. Ignores whatever the gate has not begun in this very transaction.
CREATE FUNCTION querygate_undo.capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $$
DECLARE
    r querygate_undo.request;
    number bigint;
    was text;
    became text;
    size bigint;
    differ text[];
    kept record;
BEGIN
    SELECT * INTO r FROM querygate_undo.request q
    WHERE q.request = current_setting('querygate_undo.capture', true) AND q.state = 'open'
        AND q.pid = pg_backend_pid() AND q.txid = txid_current();
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- By their output functions alone: a cast of the row's own type or of a column's may run anybody's code, with the rights of this function.
    IF TG_OP <> 'INSERT' THEN was := format('%s', OLD); END IF;
    IF TG_OP <> 'DELETE' THEN became := format('%s', NEW); END IF;
    size := coalesce(octet_length(was), 0) + coalesce(octet_length(became), 0);
    IF TG_OP = 'UPDATE' THEN
        EXECUTE (SELECT format('SELECT array_remove(ARRAY[%s], NULL)', string_agg(format(
                     'CASE WHEN (format(''%%s'', ($1).%1$I), num_nulls(($1).%1$I)) IS DISTINCT FROM (format(''%%s'', ($2).%1$I), num_nulls(($2).%1$I)) THEN %1$L END',
                     attname), ', '))
                 FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped)
        INTO differ USING OLD, NEW;
    END IF;
    number := nextval('querygate_undo.changes');
    INSERT INTO querygate_undo.change (request, seq, relation, schema_name, table_name, op, direct, before, after, changed, bytes, columns)
    VALUES (r.request, number, TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME, left(TG_OP, 1)::"char", pg_trigger_depth() = 1, was, became,
            differ, size, querygate_undo.columns_of(TG_RELID));
    -- Counted only where it may be too much: each change takes a number.
    IF number - r.first_change > r.max_rows OR number % 64 = 0 OR size > r.max_bytes THEN
        SELECT count(*) AS rows, coalesce(sum(c.bytes), 0)::bigint AS bytes INTO kept FROM querygate_undo.change c WHERE c.request = r.request;
        IF kept.rows > r.max_rows THEN
            PERFORM querygate_undo.give_up(r.request, format('it writes more than %s rows, cascades and all', r.max_rows));
        ELSIF kept.bytes > r.max_bytes THEN
            PERFORM querygate_undo.give_up(r.request, format('its rows take more than %s', querygate_undo.size(r.max_bytes)));
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Whether a table has the trigger, as `querygate undo cover` puts it there: for each row, behind whatever writes it, at once.
CREATE FUNCTION querygate_undo.covers(relation oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgenabled IN ('O', 'A') AND t.tgtype = 1 + 4 + 8 + 16
                       AND cardinality(t.tgattr) = 0 AND NOT t.tgdeferrable AND t.tgfoid = 'querygate_undo.capture()'::regprocedure)
$$;

-- Tables that foreign keys reach from the rows of a request and that have no trigger to keep theirs.
CREATE FUNCTION querygate_undo.uncovered(which text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT f.conrelid::regclass::text
    FROM querygate_undo.change c
    JOIN pg_constraint f ON f.confrelid = c.relation AND f.contype = 'f'
        AND CASE c.op WHEN 'D' THEN f.confdeltype ELSE f.confupdtype END IN ('c', 'n', 'd')
    WHERE c.request = which AND (c.op = 'D' OR c.op = 'U' AND EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = c.relation AND a.attnum = ANY (f.confkey) AND a.attname = ANY (c.changed)))
        AND NOT querygate_undo.covers(f.conrelid)
$$;

-- Ends keeping: says in a sentence what is kept, or fails where all has to be kept and is not. `target` is the table the statement
-- names, as its session finds it, and `counted` what its command tag says.
CREATE FUNCTION querygate_undo.finish(which text, by_warrant text, target oid, verb text, counted bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r querygate_undo.request;
    kept record;
    missing text;
    family oid[];
    refers_to_itself boolean;
    switched_off boolean := current_setting('querygate_undo.capture', true) IS DISTINCT FROM which;
BEGIN
    PERFORM set_config('querygate_undo.capture', '', true);
    SELECT * INTO r FROM querygate_undo.request q
    WHERE q.request = which AND q.warrant = by_warrant AND q.state IN ('open', 'dropped') AND q.pid = pg_backend_pid() AND q.txid = txid_current();
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'querygate: no rows are being kept here under that name';
    END IF;
    -- The table with its partitions and children; a row may have moved to a partition beside.
    WITH RECURSIVE tree AS (
        SELECT coalesce(pg_partition_root(target)::oid, target) AS relation
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relation)
    SELECT array_agg(relation) INTO family FROM tree;
    refers_to_itself := EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (family) AND confrelid = ANY (family)
                                AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')));
    SELECT count(*) AS rows, coalesce(sum(bytes), 0)::bigint AS bytes,
           count(*) FILTER (WHERE direct AND relation = ANY (family) AND op IN ('D', 'U') AND (verb = 'UPDATE' OR op = 'D')) AS direct,
           string_agg(DISTINCT format('%I.%I', schema_name, table_name), ', ') AS tables
    INTO kept FROM querygate_undo.change WHERE request = which;
    IF r.state = 'open' THEN
        missing := CASE
            WHEN switched_off THEN 'what it ran has switched the keeping off'
            WHEN verb NOT IN ('DELETE', 'UPDATE') OR counted IS NULL THEN 'nothing tells how many rows it wrote'
            WHEN kept.direct <> counted AND NOT (refers_to_itself AND kept.direct > counted)
                THEN format('it wrote %s rows, and %s were kept: a table it writes has no trigger of querygate undo cover, or triggers and functions write rows of it too', counted, kept.direct)
            WHEN kept.rows > r.max_rows THEN format('it writes more than %s rows, cascades and all', r.max_rows)
            WHEN kept.bytes > r.max_bytes THEN format('its rows take more than %s', querygate_undo.size(r.max_bytes))
        END;
        IF missing IS NULL THEN
            SELECT format('rows of %s went or changed with it by foreign keys, and no trigger of querygate undo cover is there', string_agg(DISTINCT u, ', '))
            INTO missing FROM querygate_undo.uncovered(which) u HAVING count(*) > 0;
        END IF;
        IF missing IS NOT NULL THEN
            PERFORM querygate_undo.give_up(which, missing);
        END IF;
        SELECT * INTO r FROM querygate_undo.request q WHERE q.request = which;
    END IF;
    IF r.state = 'dropped' THEN
        RETURN format('it cannot be undone: %s', left(r.why, 400));
    ELSIF kept.rows = 0 THEN
        DELETE FROM querygate_undo.request WHERE request = which;
        RETURN 'there is nothing to undo';
    END IF;
    UPDATE querygate_undo.request SET state = 'kept', rows = kept.rows, bytes = kept.bytes WHERE request = which;
    RETURN format('kept for an undo until %s: %s %s of %s (%s)', to_char(r.kept_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
                  kept.rows, CASE kept.rows WHEN 1 THEN 'row' ELSE 'rows' END, left(kept.tables, 400), querygate_undo.size(kept.bytes));
END $$;

-- What is kept of a request, for whoever may undo: only rows of tables that they may read as they have logged in.
CREATE FUNCTION querygate_undo.read(which text) RETURNS SETOF querygate_undo.change
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r querygate_undo.request;
    hidden text;
BEGIN
    -- One undo of it at a time.
    SELECT * INTO r FROM querygate_undo.request q WHERE q.request = which FOR UPDATE;
    IF NOT FOUND OR r.state <> 'kept' OR r.kept_until <= now() THEN
        RAISE EXCEPTION USING ERRCODE = '02000', MESSAGE = format('querygate: nothing is kept of request %s', which),
            DETAIL = CASE WHEN r.state = 'dropped' THEN format('It could not be kept: %s.', r.why)
                          WHEN r.kept_until <= now() THEN format('It was kept until %s.', r.kept_until) ELSE 'There is no such undo.' END;
    ELSIF r.undone_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('querygate: request %s was undone already', which),
            DETAIL = format('By %s, at %s.', r.undone_by, r.undone_at);
    END IF;
    SELECT string_agg(DISTINCT format('%I.%I', c.schema_name, c.table_name), ', ') INTO hidden
    FROM querygate_undo.change c LEFT JOIN pg_class t ON t.oid = c.relation
    WHERE c.request = which AND NOT coalesce(
        has_table_privilege(session_user, coalesce(pg_partition_root(t.oid)::oid, t.oid), 'SELECT')
        AND (NOT t.relrowsecurity OR pg_has_role(session_user, t.relowner, 'USAGE')
             OR (SELECT u.rolbypassrls OR u.rolsuper FROM pg_roles u WHERE u.rolname = session_user)), t.oid IS NULL);
    IF hidden IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('querygate: %s may not read all rows of %s', session_user, hidden);
    END IF;
    UPDATE querygate_undo.request SET undoing = txid_current() WHERE request = which;
    -- Who could read the rows of a table that is gone nobody knows any more.
    RETURN QUERY SELECT c.request, c.seq, c.relation, c.schema_name, c.table_name, c.op, c.direct,
            CASE WHEN t.oid IS NOT NULL THEN c.before END, CASE WHEN t.oid IS NOT NULL THEN c.after END,
            c.changed, c.bytes, c.columns, c.undone
        FROM querygate_undo.change c LEFT JOIN pg_class t ON t.oid = c.relation
        WHERE c.request = which AND NOT c.undone ORDER BY c.seq DESC;
END $$;

-- Notes what was undone in this transaction, and what conflicted.
CREATE FUNCTION querygate_undo.settle(which text, numbers bigint[], conflicts bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    restored bigint;
BEGIN
    -- Who may not read what is kept cannot have undone it.
    IF NOT EXISTS (SELECT FROM querygate_undo.request WHERE request = which AND undoing = txid_current()) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'querygate: that request is not being undone here';
    END IF;
    UPDATE querygate_undo.change SET undone = true WHERE request = which AND seq = ANY (numbers) AND NOT undone;
    GET DIAGNOSTICS restored = ROW_COUNT;
    INSERT INTO querygate_undo.undoing (request, role, pid, restored, conflicts)
    VALUES (which, session_user, pg_backend_pid(), restored, conflicts);
    UPDATE querygate_undo.request SET undone_at = now(), undone_by = session_user
    WHERE request = which AND NOT EXISTS (SELECT FROM querygate_undo.change WHERE request = which AND NOT undone);
END $$;

-- The columns of a table that can be written, each as `format` says.
CREATE FUNCTION querygate_undo.each_column(relation oid, pattern text, separator text, only_these text[] DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format(pattern, attname), separator ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname = ANY (coalesce(only_these, ARRAY[attname]))
$$;

-- Columns in which two rows of a table, or of two of its partitions, differ; NULL: in none.
CREATE FUNCTION querygate_undo.differ(one regclass, this text, other regclass, that text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text[];
BEGIN
    -- Literals are read by the type's own input; a cast may be anybody's.
    EXECUTE (SELECT format('SELECT array_remove(ARRAY[%s], NULL) FROM (SELECT %L::%s AS k, %L::%s AS l) q', string_agg(format(
                 'CASE WHEN (format(''%%s'', (q.k).%1$I), num_nulls((q.k).%1$I)) IS DISTINCT FROM (format(''%%s'', (q.l).%1$I), num_nulls((q.l).%1$I)) THEN %1$L END',
                 attname), ', '), this, one, that, other)
             FROM pg_attribute WHERE attrelid = one AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
    INTO found;
    RETURN nullif(found, '{}');
END $$;

-- A table that would lose rows, or links in them, by a foreign key if this row went; NULL: none would.
CREATE FUNCTION querygate_undo.held_by(relation oid, gone text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f record;
    kind text := relation::regclass;
    there boolean;
BEGIN
    FOR f IN SELECT k.conrelid::regclass AS child, string_agg(format('y.%I = (q.k).%I', c.attname, p.attname), ' AND ') AS match
             FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) u (from_number, to_number)
             JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.from_number
             JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.to_number
             WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype IN ('c', 'n', 'd')
                 AND (k.confrelid = relation OR k.confrelid IN (SELECT relid FROM pg_partition_ancestors(relation)))
             GROUP BY k.oid, k.conrelid
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s y, (SELECT %L::%s AS k) q WHERE %s)', f.child, gone, kind, f.match) INTO there;
        IF there THEN
            RETURN f.child::text;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Undoes one change with the rights of its caller; NULL, or why it cannot be undone. What writes runs with the caller's search_path,
-- which triggers may rely on. Kept rows are written as literals, which their type's own input reads; a cast may run anybody's code.
-- A move between partitions (`op` M) is one change: the row as it left one (`before`, whose table is the first of `changed`) and as it
-- came into the other (`after`).
CREATE FUNCTION querygate_undo.undo_one(c querygate_undo.change, path text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET lc_monetary = 'C' SET xmloption = 'content' AS $$
DECLARE
    root text := coalesce(pg_partition_root(c.relation), c.relation::regclass)::text;
    -- Rows of tables that inherit from it are others.
    here text := CASE WHEN pg_partition_root(c.relation) IS NULL THEN 'ONLY ' ELSE '' END || root;
    kind text := c.relation::regclass::text;
    -- The table of `before`.
    former regclass := CASE c.op WHEN 'M' THEN c.changed[1]::oid ELSE c.relation END;
    ours text := querygate_undo.each_column(c.relation, '(q.k).%I', ', ');
    theirs text := querygate_undo.each_column(c.relation, 'x.%I', ', ');
    command text;
    by_key text;
    written text;
    expected text;
    given text[];
    wanted text[];
    columns text[] := c.changed;
    at_table oid;
    at_row tid;
    done bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
                   WHERE t.oid = c.relation AND t.relname = c.table_name AND n.nspname = c.schema_name) THEN
        RETURN 'its table is gone, or has another name';
    ELSIF querygate_undo.columns_of(c.relation) <> c.columns OR c.op = 'M' AND querygate_undo.columns_of(former) IS DISTINCT FROM c.changed[3] THEN
        RETURN 'the columns of its table have changed since';
    END IF;
    IF c.op = 'D' THEN
        command := format('INSERT INTO %s AS x (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM (SELECT %L::%s AS k) q RETURNING ROW(%s)::pg_catalog.text',
                          root, querygate_undo.each_column(c.relation, '%I', ', '), ours, c.before, kind, theirs);
        -- Names within a row (regclass) are written as that path has them.
        PERFORM set_config('search_path', path, true);
        EXECUTE command INTO written;
        EXECUTE pg_catalog.format('SELECT ROW(%s)::pg_catalog.text FROM (SELECT %L::%s AS k) q', ours, c.before, kind) INTO expected;
        SET LOCAL search_path = pg_catalog, pg_temp;
        IF written IS NULL THEN
            RETURN 'a trigger keeps it from being inserted';
        END IF;
        RETURN CASE WHEN written = expected THEN NULL ELSE 'a trigger changes it as it is inserted' END;
    END IF;
    IF c.op = 'M' THEN
        columns := querygate_undo.differ(former, c.before, c.relation, c.after);
    END IF;
    columns := ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = former AND attname = ANY (columns) AND attgenerated = '' ORDER BY attnum);
    -- The key finds the row; that it still is as it was left, all its columns tell. Types of extensions may compare by code of their own.
    SELECT string_agg(format('x.%1$I = (q.k).%1$I', a.attname), ' AND ') INTO by_key
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) JOIN pg_type y ON y.oid = a.atttypid
    WHERE i.indrelid = c.relation AND i.indisprimary AND y.typnamespace = 'pg_catalog'::regnamespace;
    EXECUTE format('SELECT x.tableoid, x.ctid FROM %s x, (SELECT %L::%s AS k) q WHERE %s AND ROW(%s)::text = ROW(%s)::text LIMIT 1',
                   here, c.after, kind, coalesce(by_key, 'true'), theirs, ours)
    INTO at_table, at_row;
    IF at_row IS NULL THEN
        IF by_key IS NULL THEN
            RETURN 'there is no row as it was left';
        END IF;
        IF c.op = 'U' THEN
            EXECUTE format('SELECT count(*) FROM %s x, (SELECT %L::%s AS k) q WHERE %s AND ROW(%s)::text = ROW(%s)::text', here, c.before, kind, by_key, theirs, ours)
            INTO done;
            IF done > 0 THEN
                -- It is back already: a foreign key has carried it along.
                RETURN NULL;
            END IF;
        END IF;
        EXECUTE format('SELECT count(*) FROM %s x, (SELECT %L::%s AS k) q WHERE %s', here, c.after, kind, by_key) INTO done;
        RETURN CASE WHEN done = 0 THEN 'the row is gone' ELSE 'the row was changed since' END;
    END IF;
    IF c.op = 'I' THEN
        written := querygate_undo.held_by(c.relation, c.after);
        IF written IS NOT NULL THEN
            RETURN format('rows of %s refer to it, and would go or change with it', written);
        END IF;
    END IF;
    IF c.op <> 'I' AND columns = '{}' THEN
        -- It was written with what it had.
        RETURN NULL;
    END IF;
    -- One that is changed at this very moment is at another place afterwards, and not found.
    command := CASE c.op
        WHEN 'I' THEN format('DELETE FROM %s x', root)
        ELSE format('UPDATE %s x SET (%s) = ROW(%s) FROM (SELECT %L::%s AS k) q', root, querygate_undo.each_column(former, '%I', ', ', columns),
                    querygate_undo.each_column(former, '(q.k).%I', ', ', columns), c.before, former)
        END || ' WHERE x.tableoid OPERATOR(pg_catalog.=) $1 AND x.ctid OPERATOR(pg_catalog.=) $2 RETURNING ARRAY['
        || CASE c.op WHEN 'I' THEN 'NULL' ELSE querygate_undo.each_column(former, 'pg_catalog.format(''%%L'', x.%I)', ', ', columns) END || ']::pg_catalog.text[]';
    expected := format('SELECT ARRAY[%s] FROM (SELECT %L::%s AS k) q',
                       querygate_undo.each_column(former, 'pg_catalog.format(''%%L'', (q.k).%I)', ', ', columns), c.before, former);
    PERFORM set_config('search_path', path, true);
    EXECUTE command INTO given USING at_table, at_row;
    IF given IS NOT NULL AND c.op OPERATOR(pg_catalog.<>) 'I' THEN
        EXECUTE expected INTO wanted;
    END IF;
    SET LOCAL search_path = pg_catalog, pg_temp;
    IF given IS NULL THEN
        RETURN 'the row was changed since, or a trigger keeps it as it is';
    ELSIF c.op = 'I' OR given = wanted THEN
        RETURN NULL;
    END IF;
    columns := ARRAY(SELECT u.name FROM unnest(columns, given, wanted) u (name, now, was) WHERE u.now <> u.was);
    RETURN CASE WHEN cardinality(columns) = cardinality(given) THEN 'a trigger gives it other values'
                ELSE format('restored, but a trigger has set %s anew', array_to_string(columns, ', ')) END;
END $$;

-- Undoes what a request did: each row on its own, or all or nothing. Rows that conflict are listed; `rehearse` changes nothing.
CREATE FUNCTION querygate_undo.restore(which text, whole boolean DEFAULT false, rehearse boolean DEFAULT false)
RETURNS TABLE (table_name text, row_text text, outcome text)
LANGUAGE plpgsql AS $$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    changes querygate_undo.change[];
BEGIN
    changes := ARRAY(SELECT k FROM querygate_undo.read(which) k);
    RETURN QUERY SELECT * FROM querygate_undo.undo_all(which, whole, rehearse, path, querygate_undo.moves(changes));
END $$;

-- The same changes, a row that moved to another partition as one: undone by itself, what refers to it would go when it is deleted there.
-- An UPDATE that moves one writes the two right after each other (ExecCrossPartitionUpdate in nodeModifyTable.c).
CREATE FUNCTION querygate_undo.moves(changes querygate_undo.change[]) RETURNS querygate_undo.change[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved querygate_undo.change[] := '{}';
    c querygate_undo.change;
    came querygate_undo.change;
BEGIN
    FOREACH c IN ARRAY changes LOOP
        IF came.op = 'I' AND c.op = 'D' AND came.direct AND c.direct AND came.relation <> c.relation
            AND pg_partition_root(came.relation) = pg_partition_root(c.relation)
        THEN
            came.op := 'M';
            came.before := c.before;
            came.changed := ARRAY[c.relation::text, c.seq::text, c.columns];
            moved[cardinality(moved)] := came;
            came := NULL;
        ELSE
            moved := moved || c;
            came := c;
        END IF;
    END LOOP;
    RETURN moved;
END $$;

-- Undoes these changes.
CREATE FUNCTION querygate_undo.undo_all(which text, whole boolean, rehearse boolean, path text, changes querygate_undo.change[])
RETURNS TABLE (table_name text, row_text text, outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c querygate_undo.change;
    later querygate_undo.change[];
    reasons text[];
    reason text;
    -- Restored, with something to be said of it.
    noted querygate_undo.change[] := '{}';
    notes text[] := '{}';
    numbers bigint[] := '{}';
    tables text[] := '{}';
    undone boolean := true;
BEGIN
    BEGIN
        -- What is deferred would fail behind the last row.
        SET CONSTRAINTS ALL IMMEDIATE;
        LOOP
            later := '{}';
            reasons := '{}';
            FOREACH c IN ARRAY changes LOOP
                BEGIN
                    reason := querygate_undo.undo_one(c, path);
                    IF reason NOT LIKE 'restored, but %' THEN
                        RAISE EXCEPTION USING ERRCODE = 'QGUNO', MESSAGE = reason;
                    ELSIF reason IS NOT NULL THEN
                        noted := noted || c;
                        notes := notes || reason;
                    END IF;
                    numbers := numbers || c.seq || CASE WHEN c.op = 'M' THEN ARRAY[c.changed[2]::bigint] END;
                    tables := tables || format('%I.%I', c.schema_name, c.table_name);
                EXCEPTION
                    WHEN unique_violation THEN
                        later := later || c;
                        reasons := reasons || format('a row with its key exists: %s', SQLERRM);
                    WHEN foreign_key_violation THEN
                        later := later || c;
                        reasons := reasons || format('a foreign key forbids it: %s', SQLERRM);
                    WHEN OTHERS THEN
                        later := later || c;
                        reasons := reasons || SQLERRM;
                END;
            END LOOP;
            -- What conflicted may go once others are back: parents, or keys that changed places.
            EXIT WHEN cardinality(later) = 0 OR cardinality(later) = cardinality(changes);
            changes := later;
        END LOOP;
        IF cardinality(later) > 1 THEN
            -- Rows that refer to each other, or whose keys went round, come back together or not, where their constraints can wait.
            BEGIN
                SET CONSTRAINTS ALL DEFERRED;
                FOREACH c IN ARRAY later LOOP
                    IF querygate_undo.undo_one(c, path) NOT LIKE 'restored, but %' THEN
                        RAISE EXCEPTION USING ERRCODE = 'QGUNO', MESSAGE = 'not together';
                    END IF;
                END LOOP;
                SET CONSTRAINTS ALL IMMEDIATE;
                FOREACH c IN ARRAY later LOOP
                    numbers := numbers || c.seq || CASE WHEN c.op = 'M' THEN ARRAY[c.changed[2]::bigint] END;
                    tables := tables || format('%I.%I', c.schema_name, c.table_name);
                END LOOP;
                later := '{}';
            EXCEPTION WHEN OTHERS THEN
                SET CONSTRAINTS ALL IMMEDIATE;
            END;
        END IF;
        IF rehearse OR whole AND cardinality(later) > 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'QGALL', MESSAGE = 'all of it is taken back';
        END IF;
        PERFORM querygate_undo.settle(which, numbers, cardinality(later));
    EXCEPTION WHEN SQLSTATE 'QGALL' THEN
        undone := false;
    END;
    RETURN QUERY SELECT t, NULL::text, format('%s %s %s', count(*), CASE count(*) WHEN 1 THEN 'row' ELSE 'rows' END,
                        CASE WHEN undone THEN 'restored' WHEN rehearse THEN 'would be restored' ELSE 'not restored, because others conflict' END)
                 FROM unnest(tables) t GROUP BY t ORDER BY t;
    FOR i IN 1 .. cardinality(later) LOOP
        c := later[i];
        table_name := format('%I.%I', c.schema_name, c.table_name);
        row_text := left(coalesce(c.before, c.after), 200);
        outcome := 'conflict: ' || reasons[i];
        RETURN NEXT;
    END LOOP;
    FOR i IN 1 .. least(cardinality(noted), 100) LOOP
        c := noted[i];
        table_name := format('%I.%I', c.schema_name, c.table_name);
        row_text := left(c.before, 200);
        outcome := notes[i];
        RETURN NEXT;
    END LOOP;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA querygate_undo FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA querygate_undo FROM PUBLIC;
GRANT EXECUTE ON FUNCTION querygate_undo.draw(),
    querygate_undo.begin(text, bigint, bigint, bigint, bigint, bigint, boolean, text, text),
    querygate_undo.finish(text, text, oid, text, bigint) TO PUBLIC;
