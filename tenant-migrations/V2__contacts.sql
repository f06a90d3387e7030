-- The address book.

-- `array_to_string` is only stable, because it could meet types whose text depends on settings; text itself does not.
CREATE FUNCTION contact_tags_text(tags text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN array_to_string(tags, ' ');

CREATE TABLE contacts (
    id          uuid        PRIMARY KEY,
    first_name  text        CHECK (length(first_name) BETWEEN 1 AND 100),
    last_name   text        CHECK (length(last_name) BETWEEN 1 AND 100),
    company     text        CHECK (length(company) BETWEEN 1 AND 200),
    title       text        CHECK (length(title) BETWEEN 1 AND 200),
    -- Arrays of {label, value}, {label, value} and {label, street, city, region, postalCode, country}: read and written
    -- with their contact, never on their own.
    emails      jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(emails) = 'array'),
    phones      jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(phones) = 'array'),
    addresses   jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(addresses) = 'array'),
    notes       text        CHECK (length(notes) BETWEEN 1 AND 10000),
    tags        text[]      NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    version     bigint      NOT NULL DEFAULT 1,
    -- What lists sort by, so that `de Vries` does not come after `Zhang`.
    last_name_key text      NOT NULL GENERATED ALWAYS AS (lower(coalesce(last_name, ''))) STORED,
    company_key   text      NOT NULL GENERATED ALWAYS AS (lower(coalesce(company, ''))) STORED,
    -- What `?q=` looks in.
    search      text        NOT NULL GENERATED ALWAYS AS (lower(
        coalesce(first_name, '') || ' ' || coalesce(last_name, '') || ' ' || coalesce(company, '') || ' '
        || translate(jsonb_path_query_array(emails, '$[*].value')::text, '[]"', '') || ' '
        || translate(jsonb_path_query_array(phones, '$[*].value')::text, '[]"', '') || ' '
        || coalesce(notes, '') || ' ' || contact_tags_text(tags)
    )) STORED,
    CHECK (last_name IS NOT NULL OR company IS NOT NULL)
);
CREATE INDEX contacts_created_at_idx ON contacts (created_at, id);
CREATE INDEX contacts_updated_at_idx ON contacts (updated_at, id);
CREATE INDEX contacts_last_name_idx ON contacts (last_name_key, id);
CREATE INDEX contacts_company_idx ON contacts (company_key, id);
CREATE INDEX contacts_tags_idx ON contacts USING gin (tags);
